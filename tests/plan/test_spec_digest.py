"""The spec digest: every shaping value changes it, and nothing else does (DESIGN section 3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.config import ServiceSource
from reconciler.model.desired import Revision
from reconciler.model.identity import ServiceKey
from reconciler.model.policy import Policy
from reconciler.plan.desired import resolve
from reconciler.plan.spec import SHAPING
from tests.plan.trees import tree

POLICY = Policy(allow_privileged=("shop",), allow_capabilities=("NET_ADMIN", "SYS_TIME"))

FULL: dict[str, Any] = {
    "image": "registry.example/api:1",
    "port": 80,
    "needs": {"db": "postgres"},
    "health": {"http": "/up", "interval": "2s", "retries": 3},
    "volumes": {"data": "/data", "logs": {"target": "/logs", "read_only": True}},
    "secrets": ["a", "b"],
    "env": {"A": "1", "B": "two"},
    "command": ["run", "it"],
    "entrypoint": ["/init"],
    "user": "1000",
    "working_dir": "/app",
    "resources": {"memory": "256m", "cpus": 0.5},
    "stop_signal": "SIGTERM",
    "init": False,
    "read_only": False,
    "tmpfs": ["/tmp"],
    "privileged": False,
    "cap_add": ["NET_ADMIN"],
    "stateless": True,
}

SHAPED: dict[str, Any] = {
    "image": "registry.example/api:2",
    "port": 81,
    "needs": {"cache": "postgres"},
    "health": {"http": "/up", "interval": "3s", "retries": 3},
    "volumes": {"data": "/data2", "logs": {"target": "/logs", "read_only": True}},
    "secrets": ["a"],
    "env": {"A": "1", "B": "three"},
    "command": ["run it"],
    "entrypoint": [],
    "user": "1001",
    "working_dir": "/app2",
    "resources": {"memory": "257m", "cpus": 0.5},
    "stop_signal": "SIGQUIT",
    "init": True,
    "read_only": True,
    "tmpfs": ["/tmp2"],
    "privileged": True,
    "cap_add": ["SYS_TIME"],
    "stateless": False,
}

UNSHAPED: dict[str, Any] = {
    "servers_count": 2,
    "server_zone": "lon2",
    "replicas": 2,
    "public": {"hosts": ["shop.example"]},
    "rollout": {"strategy": "rolling"},
    "drain": {"timeout": "1m"},
    "suspend": True,
    "internal_port": 5555,
}


def digest(api: Any, version: str = "1", others: dict[str, Any] | None = None, files: dict[str, str] | None = None) -> str:
    services = {"api": api, "postgres": {"image": "postgres:16"}, **(others or {})}
    text = json.dumps({"project": {"name": "shop", "version": version, "services": services}})
    return digest_of({"projects/shop/prod.json": text, **(files or {})})


def digest_of(texts: dict[str, str]) -> str:
    desired = resolve(tree(texts), "one", POLICY, Revision(sha="a" * 40))
    assert not desired.invalid
    return desired.services[ServiceKey("shop", "prod", "api")].spec.digest


def test_the_digest_of_a_service_is_the_same_in_every_version_of_the_program() -> None:
    """Written down once: another answer would replace every container of everybody at the next update."""
    assert digest(FULL) == "sha256:0f09802657f7c212fd26079301ef346c506df85b5997af45bee7cccd81afd3d1"


@pytest.mark.parametrize("key", sorted(SHAPED))
def test_every_shaping_value_changes_the_digest(key: str) -> None:
    changed = {**FULL, key: SHAPED[key]}
    if key == "stateless":
        changed["rollout"] = {"strategy": "recreate"}
    without = {name: value for name, value in FULL.items() if name != key}
    assert digest(changed) != digest(FULL)
    if key not in ("image", "port", "stateless"):
        assert digest(without) not in (digest(FULL), digest(changed))


@pytest.mark.parametrize("key", sorted(UNSHAPED))
def test_what_does_not_shape_the_container_does_not_change_the_digest(key: str) -> None:
    assert digest({**FULL, key: UNSHAPED[key]}) == digest(FULL)


def test_every_key_of_a_service_is_either_shaping_or_not() -> None:
    """A new key has to be put on one of the two sides, here and in `plan.spec`."""
    assert set(SHAPED) | {"dockerfile"} == SHAPING | {"needs"}
    assert set(ServiceSource.model_fields) == SHAPING | {"needs", "servers"} | set(UNSHAPED)


def test_another_service_or_version_does_not_change_the_digest_unless_it_is_needed() -> None:
    assert digest(FULL, version="2") == digest(FULL)
    assert digest(FULL, others={"redis": {"image": "redis:7"}}) == digest(FULL)
    assert digest(FULL, others={"postgres": {"image": "postgres:17"}}) == digest(FULL)
    moved = {"postgres": {"image": "postgres:16", "internal_port": 5999}}
    assert digest(FULL, others=moved) != digest(FULL)  # POSTGRES_PORT in its environment is another one
    bare = {name: value for name, value in FULL.items() if name != "needs"}
    assert digest(bare, others=moved) == digest(bare)  # not given: never part of the environment


def shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    return value


@given(st.randoms(use_true_random=False), st.sampled_from([None, 1, 4]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_order_of_keys_and_the_format_do_not_change_the_digest(random: Any, indent: int | None, as_yaml: bool) -> None:
    file = shuffled({"project": {"name": "shop", "services": {"api": FULL, "postgres": {"image": "postgres:16"}}}}, random)
    if as_yaml:
        texts = {
            "projects/shop/prod.yml": yaml.safe_dump(file, sort_keys=False, indent=indent or 2, default_flow_style=indent is None)
        }
    else:
        texts = {"projects/shop/prod.json": json.dumps(file, indent=indent)}
    assert digest_of(texts) == digest(FULL)


def test_the_same_value_written_otherwise_is_the_same_value() -> None:
    other = {
        **FULL,
        "health": {"http": "/up", "interval": 2, "retries": 3},
        "volumes": {"data": {"target": "/data"}, "logs": {"target": "/logs", "read_only": True}},
        "resources": {"memory": 256 * 1024**2, "cpus": 0.5},
        "env": {"A": 1, "B": "two"},
        "command": "run it",
        "user": 1000,
        "secrets": ["b", "a"],
        "cap_add": ["CAP_NET_ADMIN"],
    }
    assert digest(other) == digest(FULL)


CONTEXT = {"projects/shop/Dockerfile.api": "FROM scratch\nCOPY . /\nEXPOSE 80\n", "projects/shop/src/main.py": "x"}


def test_a_build_changes_with_its_context_and_with_nothing_else() -> None:
    built = {"dockerfile": "Dockerfile.api"}
    before = digest(built, files=CONTEXT)
    assert digest(built, files={**CONTEXT, "projects/shop/src/main.py": "y"}) != before
    assert digest(built, files={**CONTEXT, "projects/shop/Dockerfile.api": "FROM scratch\nCOPY . /\nEXPOSE 80 \n"}) != before
    assert digest(built, files={**CONTEXT, "projects/shop/package.json": "{}"}) != before
    assert digest(built, files={**CONTEXT, "projects/shop/Dockerfile.web": "FROM scratch"}) == before
    assert digest(built, files={**CONTEXT, "projects/shop/uat.yaml": "project: {name: shop, services: {}}"}) == before
    assert digest(built, files={**CONTEXT, "projects/other/file": "x", "README.md": "x"}) == before
    assert digest(built, version="2", files=CONTEXT) == before


def test_a_build_that_names_what_it_copies_changes_with_that_alone() -> None:
    built = {"dockerfile": "Dockerfile.api"}
    files = {**CONTEXT, "projects/shop/Dockerfile.api": "FROM scratch\nCOPY src/main.py /\nEXPOSE 80\n"}
    before = digest(built, files=files)
    assert digest(built, files={**files, "projects/shop/src/main.py": "y"}) != before
    assert digest(built, files={**files, "projects/shop/web.py": "another service's"}) == before
