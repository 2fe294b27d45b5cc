"""Writes schemas/*.json, JSON Schemas of every file format, from the models. A test holds the written files equal."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pydantic import BaseModel

from reconciler.model.cluster import ClusterState
from reconciler.model.config import ProjectFile
from reconciler.model.inventory import ClusterFile
from reconciler.model.report import Report

DIRECTORY = Path(__file__).resolve().parent.parent / "schemas"
FORMATS: dict[str, tuple[str, type[BaseModel]]] = {
    "project.json": ("projects/<project>/<env>.yaml in the config repository", ProjectFile),
    "cluster.json": ("cluster.yaml in the config repository", ClusterFile),
    "cluster-state.json": ("cluster.yaml on the branch status/cluster, written by the servers", ClusterState),
    "report.json": ("report.yaml on the branch status/<server>, written by that server", Report),
}


def texts() -> dict[str, str]:
    """The schemas as they should be, by file name."""
    return {name: _text(title, model) for name, (title, model) in FORMATS.items()}


def _text(title: str, model: type[BaseModel]) -> str:
    schema = {**model.model_json_schema(), "$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Writes the files; with --check only compares. Returns 1 when the comparison fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs from its model")
    checking = parser.parse_args().check
    DIRECTORY.mkdir(exist_ok=True)
    stale = []
    for name, text in texts().items():
        path = DIRECTORY / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not checking:
            path.write_text(text)
            print(f"schemas: wrote schemas/{name}")
    if checking and stale:
        print(f"schemas: {', '.join(stale)} differ from the models; run: make schemas", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
