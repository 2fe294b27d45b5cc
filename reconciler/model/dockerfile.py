"""What a Dockerfile's last stage declares: ports (EXPOSE), volumes (VOLUME) and the image below it.

Only these instructions are understood; the build itself is Docker's. Variables are filled in from ARG defaults and ENV.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S)", re.IGNORECASE)
_HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::[-+]([^}]*))?\})")
_ASSIGNMENT = re.compile(r"""(\w+)=("(?:[^"\\]|\\.)*"|'[^']*'|\S*)""")
_PORT = re.compile(r"([0-9]{1,5})(?:-[0-9]{1,5})?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


@dataclass(frozen=True)
class Dockerfile:
    """The last stage. `base` is the image that it starts from, after stages of the same file; None for scratch."""

    ports: tuple[int, ...] = ()  # TCP, in the order of the file
    volumes: tuple[str, ...] = ()
    base: str | None = None


@dataclass(frozen=True)
class _Stage:
    found: Dockerfile
    variables: tuple[tuple[str, str], ...]


def read_dockerfile(data: bytes) -> Dockerfile:
    """Read a Dockerfile. Never raises: what cannot be understood declares nothing, and Docker will say what is wrong with it."""
    stages: dict[str, _Stage] = {}
    globals_: dict[str, str] = {}
    stage = _Stage(Dockerfile(), ())
    names: tuple[str, ...] = ()
    started = False
    for word, rest in _instructions(data.decode(errors="replace")):
        variables = dict(stage.variables)
        if word == "FROM":
            words = [w for w in _fill(rest, globals_).split() if not w.startswith("--")]
            origin = words[0] if words else ""
            parent = stages.get(origin.lower())
            base = None if origin == "scratch" else origin
            stage = parent or _Stage(Dockerfile(base=base), ())
            alias = words[2].lower() if len(words) >= 3 and words[1].lower() == "as" else ""
            names = (str(sum(name.isdecimal() for name in stages)), alias)
            started = True
        elif word == "ARG" and not started:
            globals_.update(_assignments(rest, globals_))
        elif word in ("ARG", "ENV"):
            if word == "ARG":  # a bare name takes the value from before the first FROM
                variables |= {name: globals_[name] for name in rest.split() if name in globals_}
            variables |= _assignments(rest, variables, spaced=word == "ENV")
            stage = replace(stage, variables=tuple(variables.items()))
        elif word == "EXPOSE":
            ports = (*stage.found.ports, *_ports(_fill(rest, variables)))
            stage = replace(stage, found=replace(stage.found, ports=tuple(dict.fromkeys(ports))))
        elif word == "VOLUME":
            volumes = (*stage.found.volumes, *_listed(_fill(rest, variables)))
            stage = replace(stage, found=replace(stage.found, volumes=tuple(dict.fromkeys(volumes))))
        stages.update({name: stage for name in names if name})
    return stage.found


def read_sources(data: bytes) -> tuple[str, ...] | None:
    """The paths of the build context that COPY and ADD name, in any stage; None when they cannot be told, so that all may matter.

    They cannot where a path has a variable or a pattern, is the whole context, or a here-document or ONBUILD stands in the file.
    """
    found: list[str] = []
    for word, rest in _instructions(data.decode(errors="replace")):
        if word == "ONBUILD" or (word in ("RUN", "COPY", "ADD") and "<<" in rest) or (word == "RUN" and "--mount" in rest):
            return None
        if word not in ("COPY", "ADD"):
            continue
        flags = [part for part in rest.split() if part.startswith("--")]
        if any(flag.startswith("--from") for flag in flags):
            continue
        words = _listed(" ".join(part for part in rest.split() if part not in flags))
        if len(words) < 2:
            return None
        for source in words[:-1]:
            path = "/".join(part for part in source.split("/") if part not in ("", "."))
            if "://" in source:
                continue
            if not path or set(source) & set("*?[]$\\\"'<") or ".." in path.split("/"):
                return None
            found.append(path)
    return tuple(dict.fromkeys(found))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """(instruction in capitals, its text) with continued lines joined, comments left out and here-documents passed over."""
    lines = iter(text.splitlines())
    escape = "\\"
    if match := _ESCAPE.match(text):
        escape = match[1]
    for line in lines:
        joined = line.strip()
        if not joined or joined.startswith("#"):
            continue
        while joined.endswith(escape):
            following = next(lines, "").strip()
            if following.startswith("#") or not following:
                joined = joined if following.startswith("#") else joined[:-1].rstrip()
                continue
            joined = joined[:-1].rstrip() + " " + following
        word, _, rest = joined.partition(" ")
        word = word.upper()
        if word in ("RUN", "COPY", "ADD"):
            for dash, _, end in _HEREDOC.findall(rest):
                for content in lines:
                    if (content.lstrip("\t") if dash else content) == end:
                        break
        yield word, rest.strip()


def _fill(text: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda m: variables.get(m[1] or m[2]) or m[3] or "", text)


def _assignments(text: str, variables: dict[str, str], spaced: bool = False) -> dict[str, str]:
    """`A=b C="d e"`; with `spaced` also the old form `A b c`."""
    found = {name: _fill(value.strip("\"'"), variables) for name, value in _ASSIGNMENT.findall(text)}
    if not found and spaced:
        name, _, value = text.partition(" ")
        return {name: _fill(value.strip(), variables)}
    return found


def _ports(text: str) -> Iterator[int]:
    for word in text.split():
        match = _PORT.fullmatch(word.strip("\"'"))
        if match and (match[2] or "tcp").lower() == "tcp" and 1 <= int(match[1]) <= 65535:
            yield int(match[1])


def _listed(text: str) -> tuple[str, ...]:
    """Words, in the JSON form or apart by blanks."""
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            return ()
        return tuple(path for path in listed if isinstance(path, str))
    return tuple(text.split())
