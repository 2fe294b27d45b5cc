"""What is shown to people is right: the schemas equal the models, and the samples are valid by both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from reconciler.model.config import ProjectFile
from reconciler.model.inventory import ClusterFile
from reconciler.model.reading import read

ROOT = Path(__file__).resolve().parents[1]
FILES: dict[str, tuple[str, type[ProjectFile] | type[ClusterFile]]] = {
    "sample-repo/cluster.yaml": ("cluster.json", ClusterFile),
    "sample-repo/projects/shop/prod.yaml": ("project.json", ProjectFile),
    "tests/data/cluster.yaml": ("cluster.json", ClusterFile),
    "tests/data/projects/new_project/uat.json": ("project.json", ProjectFile),
}


def test_the_schemas_are_those_of_the_models() -> None:
    command = [sys.executable, str(ROOT / "tools/schemas.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", FILES)
def test_a_sample_file_is_valid(path: str) -> None:
    schema, model = FILES[path]
    data = (ROOT / path).read_bytes()
    jsonschema.validate(yaml.safe_load(data), json.loads((ROOT / "schemas" / schema).read_text()))
    assert read(path, data, model)[0].model_dump(exclude_unset=True)


@pytest.mark.parametrize("path", [path for path, (schema, _) in FILES.items() if schema == "project.json"])
def test_every_dockerfile_that_a_sample_names_is_beside_it(path: str) -> None:
    file = read(path, (ROOT / path).read_bytes(), ProjectFile)[0]
    named = [service.dockerfile for service in file.project.services.values() if service.dockerfile]
    assert named
    assert [name for name in named if not (ROOT / path).with_name(name).is_file()] == []


def test_a_misspelt_field_is_an_error_of_the_schema_too() -> None:
    schema = json.loads((ROOT / "schemas/project.json").read_text())
    misspelt = {"project": {"name": "shop", "services": {"web": {"image": "web:1", "replica": 2}}}}
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        jsonschema.validate(misspelt, schema)
