"""What is read from a Dockerfile: the last stage's ports and volumes, and the image below."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.dockerfile import Dockerfile, read_dockerfile, read_sources

CASES: dict[str, tuple[str, Dockerfile]] = {
    "one port": ("FROM python:3.11\nEXPOSE 8000\n", Dockerfile((8000,), (), "python:3.11")),
    "the last stage alone": ("FROM a AS build\nEXPOSE 1\nVOLUME /x\nFROM b\nEXPOSE 2/tcp 3/udp\n", Dockerfile((2,), (), "b")),
    "a stage from a stage": ("FROM a AS base\nEXPOSE 1\nVOLUME /x\nFROM base\nEXPOSE 2\n", Dockerfile((1, 2), ("/x",), "a")),
    "a stage by number": ("FROM a\nEXPOSE 1\nFROM 0\n", Dockerfile((1,), (), "a")),
    "scratch": ("FROM scratch\nexpose 80\n", Dockerfile((80,), (), None)),
    "platform": ("FROM --platform=linux/amd64 a:1 AS x\nEXPOSE 80\n", Dockerfile((80,), (), "a:1")),
    "variables": (
        'ARG TAG=3.11\nARG P=80\nFROM py:${TAG}\nARG P\nARG Q=81\nENV R=82 S="83"\nENV T 84\nEXPOSE $P $Q ${R} $S $T ${U:-85} $V\n',
        Dockerfile((80, 81, 82, 83, 84, 85), (), "py:3.11"),
    ),
    "continued": ("FROM a\nRUN x && \\\n# comment\n  EXPOSE 1\nEXPOSE \\\n  80 \\\n  81\n", Dockerfile((80, 81), (), "a")),
    "escape directive": ("# escape=`\nFROM a\nRUN c:\\\nEXPOSE `\n 80\n", Dockerfile((80,), (), "a")),
    "here-document": ("FROM a\nRUN <<EOF\nEXPOSE 1\nEOF\nRUN <<-'X'\n\tVOLUME /no\n\tX\nEXPOSE 80\n", Dockerfile((80,), (), "a")),
    "volumes": ('FROM a\nVOLUME ["/a", "/b"]\nVOLUME /c /d\nEXPOSE 80-90\n', Dockerfile((80,), ("/a", "/b", "/c", "/d"), "a")),
    "nonsense": ("EXPOSE\nFROM\nVOLUME [1, \nEXPOSE x 0 99999\nFROM a as\n\\", Dockerfile((), (), "a")),
}


@pytest.mark.parametrize("name", CASES)
def test_the_last_stage_is_read(name: str) -> None:
    text, expected = CASES[name]
    assert read_dockerfile(text.encode()) == expected


@given(st.binary(max_size=200) | st.text('FROMEXPSVLU \\\n<`a0$={}:-[]"#', max_size=200).map(str.encode))
def test_any_bytes_are_read(data: bytes) -> None:
    """FAULTS 43."""
    assert isinstance(read_dockerfile(data), Dockerfile)


SOURCES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "named files": ("FROM a\nCOPY web.py ./lib/ /app/\nADD --chown=1:1 data.tar /data\n", ("web.py", "lib", "data.tar")),
    "the JSON form": ('FROM a\nCOPY ["a b.py", "/x"]\n', ("a b.py",)),
    "another stage's files do not count": ("FROM a AS b\nCOPY x /x\nFROM c\nCOPY --from=b /x /x\n", ("x",)),
    "a download does not count": ("FROM a\nADD https://files.example/x /x\n", ()),
    "nothing": ("FROM a\nRUN true\n", ()),
    "everything": ("FROM a\nCOPY . /app\n", None),
    "everything in another way": ("FROM a\nCOPY ./ /app\n", None),
    "a pattern": ("FROM a\nCOPY *.py /app/\n", None),
    "a variable": ("FROM a\nARG X=web.py\nCOPY $X /app/\n", None),
    "a here-document": ("FROM a\nCOPY <<EOF /x\ny\nEOF\n", None),
    "a mount": ("FROM a\nRUN --mount=type=bind,source=x,target=/x cat /x\n", None),
    "for later builds": ("FROM a\nONBUILD COPY x /x\n", None),
    "upwards": ("FROM a\nCOPY x/../y /x\n", None),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_copied_is_told_unless_it_cannot_be(name: str) -> None:
    text, expected = SOURCES[name]
    assert read_sources(text.encode()) == expected
