"""Reading YAML and JSON: what is taken for what, where it stands, and that nothing can make the reader hang or grow."""

from __future__ import annotations

import json
import resource
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import Invalid
from reconciler.model.document import LIMITS, parse
from reconciler.model.recorder import Decimal


def test_only_plain_numbers_true_false_and_null_are_not_text() -> None:
    """FAULTS 47."""
    text = b"[22:22, no, Yes, on, 010, 0x1f, 1e3, 1_0, .5, 1., 2024-01-01, -0, .inf, 1234567890123456, True, NULL, '1', \"true\"]"
    value = parse("a.yaml", text).value
    assert isinstance(value, tuple)
    assert all(isinstance(item, str) for item in value)
    typed = parse("a.yaml", b"[0, 7, -12, 1.10, -0.5, true, false, null, ~, ]").value
    assert typed == (0, 7, -12, 1.10, -0.5, True, False, None, None)
    assert isinstance(typed[3], Decimal) and typed[3].text == "1.10"


def test_every_key_and_value_has_its_line_and_column() -> None:
    document = parse("a.yaml", b"a:\n  - b: 1\n    c: [x,\n      y]\n")
    assert document.keys == {("a",): (1, 1), ("a", 0, "b"): (2, 5), ("a", 0, "c"): (3, 5)}
    assert document.values[("a", 0, "c", 1)] == (4, 7)
    assert document.place(("a", 0, "c", 1)) == (4, 7)
    assert document.place(("a", 0, "gone", "c")) == (3, 5)


def test_json_and_yaml_give_the_same_values_and_places() -> None:
    text = b'{"a": {"b": [1, 1.5, true, null, "x\\u0041\\n"]},\n "c": {}, "d": []}'
    assert (
        parse("a.json", text).value
        == parse("a.yaml", text).value
        == json.loads(text) | {"a": {"b": (1, 1.5, True, None, "xA\n")}, "d": ()}
    )
    assert parse("a.json", text).values == parse("a.yaml", text).values
    assert parse("a.json", text).keys == parse("a.yaml", text).keys


def test_json_may_be_indented_with_tabs() -> None:
    assert parse("a.json", b'{\n\t"a":\t1\n}\n').value == {"a": 1}


REFUSED: dict[str, tuple[bytes, str]] = {
    "byte order mark": (b"\xef\xbb\xbfa: 1", "1:1: the file begins with a byte order mark"),
    "UTF-16": ("a: 1".encode("utf-16"), "1:1: the file begins with a byte order mark"),
    "NUL": (b"a: 1\nb: \0", "2:4: the control character U+0000"),
    "escape character": (b"a: \x1b[31m", "1:4: the control character U+001B"),
    "invalid UTF-8": (b"a: 1\nbc: \xff", "2:5: byte 0xff is not UTF-8"),
    "empty": (b"", ": the file is empty"),
    "blank": (b"\n \n", ": the file is empty"),
    "tab": (b"a:\n\tb: 1", "2:1: a tab where YAML wants spaces"),
    "NUL by escape": (b'a: "\\0"', "1:4: a text with a NUL"),
    "half a surrogate pair": (b'a: "\\ud800"', "1:4: a text with a NUL or half a surrogate pair"),
    "beyond Unicode": (b'a: "\\U00110000"', ": not YAML"),
    "anchor": (b"a: &x 1", '1:4: the anchor "&x" is not supported'),
    "anchor on a key": (b"&x a: 1", '1:1: the anchor "&x" is not supported'),
    "alias": (b"a: *x", '1:4: the alias "*x" is not supported'),
    "tag": (b"a: !!python/object/apply:os.system [x]", "1:4: the tag"),
    "merge key": (b"a: {<<: {b: 1}}", '1:5: the merge key "<<" is not supported'),
    "quoted merge key": (b'a: {"<<": {b: 1}}', '1:5: the merge key "<<" is not supported'),
    "second document": (b"a: 1\n---\nb: 1", "2:1: a second document"),
    "a list as a key": (b"[a]: 1", "1:1: a key that is not a name"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "1:1: this is a Git LFS pointer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_yaml_could_mean_otherwise_is_refused_at_its_place(name: str) -> None:
    """FAULTS 43, 44, 45, 49."""
    data, expected = REFUSED[name]
    with pytest.raises(Invalid) as refused:
        parse("a.yaml", data)
    assert str(refused.value).startswith(f"a.yaml{expected}" if expected.startswith(":") else f"a.yaml:{expected}")


BAD_JSON = [
    b"{'a': 1}",
    b'{"a": 1,}',
    b"[1,]",
    b"[01]",
    b"[NaN]",
    b"[Infinity]",
    b"[1] x",
    b'["\t"]',
    b'{"a"}',
    b"[+1]",
    b"[.5]",
    b"{",
]


@pytest.mark.parametrize("data", BAD_JSON)
def test_json_is_json_and_not_what_yaml_allows(data: bytes) -> None:
    """FAULTS 43."""
    with pytest.raises(ValueError):
        json.loads(data, parse_constant=_refuse)
    with pytest.raises(Invalid):
        parse("a.json", data)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def test_every_duplicate_key_is_told_with_the_line_of_the_first() -> None:
    """FAULTS 46."""
    for path, text in (("a.yaml", b"a: 1\nb: {c: 1, c: 2}\n'a': 3"), ("a.json", b'{"a": 1,\n"b": {"c": 1, "c": 2},\n"a": 3}')):
        problems = parse(path, text).problems
        assert [(problem.line, problem.message.split(";")[0]) for problem in problems] == [
            (2, 'duplicate key "c": it is already at line 2'),
            (3, 'duplicate key "a": it is already at line 1'),
        ]


def _alias_bomb() -> bytes:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(lines).encode()


def _merge_bomb() -> bytes:
    return "\n".join(["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 30)]).encode()


SIZE = LIMITS.size
BOMBS: dict[str, tuple[str, bytes]] = {
    "aliases": ("a.yaml", _alias_bomb()),
    "merge keys": ("a.yaml", _merge_bomb()),
    "size": ("a.yaml", b"a: " + b"x" * SIZE),
    "flow depth": ("a.yaml", b"[" * SIZE),
    "mapping depth": ("a.yaml", b"{a: " * (SIZE // 4)),
    "block depth": ("a.yaml", b"- " * (SIZE // 2)),
    "key depth": ("a.yaml", b"? " * (SIZE // 2)),
    "nodes": ("a.yaml", b"[" + b"1," * (SIZE // 2 - 1) + b"]"),
    "keys": ("a.yaml", b"".join(b"%d: x\n" % n for n in range(28_000))),
    "scalar": ("a.yaml", b"a: " + b"x " * (SIZE // 2 - 2)),
    "quoted": ("a.yaml", b"a: '" + b"x\n\n " * (SIZE // 4 - 1)),
    "colons": ("a.yaml", b"a:" * (SIZE // 2)),
    "exclamations": ("a.yaml", b"!" * SIZE),
    "block scalar": ("a.yaml", b"a: |\n" + b" \n" * (SIZE // 2 - 4) + b"  x"),
    "json depth": ("a.json", b"[" * SIZE),
    "json nodes": ("a.json", b"[" + b"1," * (SIZE // 2 - 1) + b"1]"),
    "json number": ("a.json", b"9" * SIZE),
    "json text": ("a.json", b'"' + b"x" * (SIZE - 2) + b'"'),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_costs_anything(name: str) -> None:
    """FAULTS 44, 45, 48: processor time of this process, so that a busy machine does not matter."""
    path, data = BOMBS[name]
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(Invalid):
        parse(path, data)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 4.0
    assert after.ru_maxrss - before.ru_maxrss < 200 * 1024


@given(st.one_of(st.binary(max_size=300), st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,\n\t \\0~<.1", max_size=120).map(str.encode)))
@settings(max_examples=600, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """FAULTS 43: no input ends in anything but a document or a list of problems."""
    for path in ("a.yaml", "a.json"):
        try:
            document = parse(path, data)
        except Invalid as refused:
            assert refused.problems
        else:
            assert () in document.values


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**14), 10**14)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON, st.sampled_from([None, 1, "\t"]))
@settings(max_examples=300, deadline=None)
def test_the_json_reader_agrees_with_the_standard_library(value: Any, indent: Any) -> None:
    assert _lists(parse("a.json", json.dumps(value, indent=indent).encode()).value) == value


def _lists(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_lists(item) for item in value]
    return {key: _lists(item) for key, item in value.items()} if isinstance(value, dict) else value
