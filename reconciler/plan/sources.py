"""The files of a revision, read and sorted: which are projects, which is the inventory, and what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from reconciler.errors import Invalid, Problem
from reconciler.model.config import ProjectFile, ProjectSource
from reconciler.model.document import parse
from reconciler.model.grammar import NAME_WORDS, valid_name
from reconciler.model.inventory import ClusterFile
from reconciler.model.printable import printable
from reconciler.model.reading import check
from reconciler.model.recorder import Document
from reconciler.model.source import Files, SourceFile, obstacle

CLUSTER_FILE = "cluster.yaml"
ROOT = "projects"
_EXTENSIONS = (".yaml", ".yml", ".json")
_BUILD_FILES = re.compile(
    "angular|appsettings|babel|bower|codecov|(docker-)?compose|composer|deno|firebase|global|jsconfig|lerna|mkdocs|netlify|nodemon|now"
    "|npm-shrinkwrap|nx|package|package-lock|pnpm-lock|pnpm-workspace|renovate|tsconfig|turbo|vercel"
)  # files of build contexts whose names are fixed by other tools: never environments


@dataclass(frozen=True)
class ProjectAt:
    """One project file that could be read. `declared` are all its services, also those left out of `source` for a fault."""

    path: str
    project: str
    env: str
    source: ProjectSource
    document: Document
    declared: frozenset[str]

    @property
    def name(self) -> str:
        """`project/env`."""
        return f"{self.project}/{self.env}"

    def problem(self, message: str, *location: str | int) -> Problem:
        """A problem below `project.services`, such as at ("api", "port")."""
        return self.document.problem(("project", "services", *location), message)


@dataclass
class Sources:
    """What a revision's files say. `invalid` maps `project/env` (or the path of something misplaced) to what is wrong with it."""

    projects: dict[str, ProjectAt] = field(default_factory=dict)
    invalid: dict[str, list[Problem]] = field(default_factory=dict)
    cluster: ClusterFile | None = None
    cluster_document: Document | None = None
    cluster_problems: list[Problem] = field(default_factory=list)


def read_sources(files: Files) -> Sources:
    """Read every file that is config. Never raises: what is wrong is in the result."""
    sources = Sources()
    _read_cluster(files, sources)
    for path in (ROOT, *sorted({_directory(path) for path in files if path.startswith(f"{ROOT}/")})):
        entry = files.get(path)
        if entry is not None and not entry.regular:
            key = path.removeprefix(f"{ROOT}/")
            sources.invalid[key] = [Problem(printable(entry.path), 0, 0, obstacle(files, entry.path) or "not a directory")]
    claimed: dict[str, str] = {}
    for file, project, env in environments(files):
        name = f"{project}/{env}"
        if name in claimed:
            message = f"{printable(name)} is described twice, in {printable(claimed[name])} and here; keep one of the two files"
            sources.invalid.setdefault(name, []).append(Problem(printable(file.path), 0, 0, message))
            sources.projects.pop(name, None)
            continue
        claimed[name] = file.path
        read, problems = _read_project(files, file, project, env)
        if read is not None:
            sources.projects[name] = read
        if problems:
            sources.invalid[name] = problems
    return sources


def environments(files: Files) -> Iterator[tuple[SourceFile, str, str]]:
    """(file, project, environment) for every file that describes one, in the order of their paths."""
    for path in sorted(files):
        parts = path.split("/")
        if len(parts) == 3 and parts[0] == ROOT and is_environment(parts[2]):
            yield files[path], parts[1], parts[2].rpartition(".")[0]
        elif len(parts) == 2 and parts[0] == ROOT and path.endswith(_EXTENSIONS) and files[path].regular:
            yield files[path], path, ""


def is_environment(name: str) -> bool:
    """Whether a file of this name in a project's directory describes an environment; other tools' files do not."""
    stem, _, extension = name.rpartition(".")
    return f".{extension}" in _EXTENSIONS and "." not in stem and stem != "" and not _BUILD_FILES.fullmatch(stem)


def _directory(path: str) -> str:
    return "/".join(path.split("/")[:2])


def _read_cluster(files: Files, sources: Sources) -> None:
    for other in ("cluster.yml", "cluster.json"):
        if other in files:
            sources.cluster_problems.append(Problem(other, 0, 0, f"the inventory is read from {CLUSTER_FILE}; rename the file"))
    file = files.get(CLUSTER_FILE)
    if file is None:
        return
    document, problems = _parse(files, file)
    sources.cluster_problems += problems
    if document is None:
        return
    sources.cluster_document = document
    found, problems = check(document, ClusterFile)
    sources.cluster_problems += problems
    if found is not None and not problems:
        sources.cluster = found
        sources.cluster_problems += _addresses(found, document)


def _addresses(cluster: ClusterFile, document: Document) -> Iterator[Problem]:
    """From two servers on, each needs an address of its own: backends are listed by address and port."""
    seen: dict[str, str] = {}
    for name, server in cluster.servers.items():
        if server.address is None and len(cluster.servers) > 1:
            yield document.problem(("servers", name), f"{name} has no address; with several servers each needs its private one")
        elif server.address is not None and server.address in seen:
            message = f"{name} has the address of {seen[server.address]}; give each its own"
            yield document.problem(("servers", name, "address"), message)
        elif server.address is not None:
            seen[server.address] = name


def _read_project(files: Files, file: SourceFile, project: str, env: str) -> tuple[ProjectAt | None, list[Problem]]:
    path = printable(file.path)
    if not env:
        return None, [Problem(path, 0, 0, f"a project file is {ROOT}/<project>/<environment>.yaml; move it there")]
    names = [
        Problem(path, 0, 0, f'the {what} in the path is "{printable(text)}", expected {NAME_WORDS}; rename it')
        for what, text in (("project", project), ("environment", env))
        if not valid_name(text)
    ]
    document, problems = _parse(files, file)
    if document is None:
        return None, [*names, *problems]
    found, problems = _validated(document)
    problems = [*names, *problems]
    if found is not None and found.name != project:
        place = ("project", "name")
        message = f'project.name: found "{found.name}", but the directory is "{printable(project)}"; make them the same'
        problems.append(document.problem(place, message))
    if found is None or names:
        return None, problems
    return ProjectAt(path, project, env, found, document, _declared(document)), problems


def _parse(files: Files, file: SourceFile) -> tuple[Document | None, list[Problem]]:
    path = printable(file.path)
    if why := obstacle(files, file.path):
        return None, [Problem(path, 0, 0, why)]
    if file.data is None:
        return None, [Problem(path, 0, 0, "the file was not read: it is too large for a config file")]
    try:
        return _cached(file.path, file.data), []
    except Invalid as error:
        return None, list(error.problems)


@lru_cache(maxsize=512)
def _cached(path: str, data: bytes) -> Document:
    """Most files of a revision are those of the one before; reading YAML is the slowest part of a pass."""
    return parse(path, data)


def _validated(document: Document) -> tuple[ProjectSource | None, list[Problem]]:
    """The project, and every fault. Services with faults of their own are left out, so that the others are still checked."""
    found, problems = check(document, ProjectFile)
    if found is None:
        faulty = {
            name
            for name in _declared(document)
            if any(_within(document, problem, ("project", "services", name)) for problem in problems)
        }
        if faulty and isinstance(document.value, Mapping):
            project = document.value["project"]
            assert isinstance(project, Mapping) and isinstance(project["services"], Mapping)
            services = {name: service for name, service in project["services"].items() if name not in faulty}
            partial = Document(document.path, {**document.value, "project": {**project, "services": services}}, {}, {})
            found, _ = check(partial, ProjectFile)
    return (found.project if found is not None else None), problems


def _within(document: Document, problem: Problem, location: tuple[str, ...]) -> bool:
    start = document.keys[location]
    later = [place for path, place in document.keys.items() if len(path) == len(location) and place > start]
    return start <= (problem.line, problem.column) < min(later, default=(1 << 62, 0))


def _declared(document: Document) -> frozenset[str]:
    return frozenset(str(path[2]) for path in document.keys if len(path) == 3 and path[:2] == ("project", "services"))
