"""Differences by field, without any value of a variable or a secret."""

from __future__ import annotations

from reconciler.model.desired import ContainerSpec, DesiredService, Health, Mount
from reconciler.model.identity import ServiceKey
from reconciler.render.terminal_diff import compare, difference_note

KEY = ServiceKey("shop", "prod", "web")
SPEC = ContainerSpec(digest="sha256:1", image="web:1", port=80, env=(("PASSWORD", "old-secret"), ("SAME", "kept-secret")))
WEB = DesiredService(key=KEY, spec=SPEC, servers=("one",), internal_port=5001)


def _desired(**update: object) -> DesiredService:
    return WEB.model_copy(update={"spec": SPEC.model_copy(update=update)})


def _lines(desired: DesiredService) -> list[str]:
    found = compare(str(KEY), WEB, desired, runs=True, drift=())
    return list(difference_note(found, "a" * 40).lines)


def test_a_changed_variable_is_named_and_neither_value_is_shown() -> None:
    lines = _lines(_desired(env=(("NEW", "third-secret"), ("PASSWORD", "new-secret"), ("SAME", "kept-secret"))))
    assert lines == ["env NEW: nothing -> (hidden)", "env PASSWORD: (hidden) -> (hidden, different)"]


def test_an_empty_value_is_a_value() -> None:
    assert _lines(_desired(env=(("EMPTY", ""), *SPEC.env))) == ["env EMPTY: nothing -> (hidden)"]


def test_secrets_are_named() -> None:
    assert _lines(_desired(secrets=("token",))) == ["secrets token: nothing -> (hidden)"]


def test_nested_fields_are_compared_one_by_one() -> None:
    assert _lines(_desired(health=Health(path="/up", timeout=5))) == ['health path: "/" -> "/up"', "health timeout: 2 -> 5"]


def test_image_mounts_and_placement_are_shown() -> None:
    mount = Mount(kind="volume", source="data", target="/data", read_only=True)
    desired = _desired(image="web:2", mounts=(mount,)).model_copy(update={"servers": ("one", "two")})
    assert _lines(desired) == [
        "image: web:1 -> web:2",
        "mount /data: nothing -> volume data read-only",
        'servers: ["one"] -> ["one", "two"]',
    ]


def test_credentials_in_a_command_are_masked() -> None:
    lines = _lines(_desired(command=("run", "https://user:token@host/x")))
    assert lines == ['command: nothing -> ["run", "https://***@host/x"]']


def test_the_kinds_of_difference() -> None:
    assert compare("s", None, WEB, runs=False, drift=()).kind == "added"
    assert compare("s", WEB, None, runs=True, drift=()).kind == "removed"
    assert compare("s", None, WEB, runs=True, drift=()).kind == "unknown"
    assert compare("s", WEB, WEB, runs=True, drift=()).kind == "same"
    assert compare("s", WEB, WEB, runs=True, drift=("memory limit",)).kind == "changed"
