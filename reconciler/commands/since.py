"""What the commits of status/cluster say by their messages, and since which of them each service has what it has live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from reconciler.effects.git_reader import GitReader
from reconciler.engine.documents import parse
from reconciler.errors import ReconcilerError
from reconciler.model.cluster import ClusterState
from reconciler.model.overview import Decided, Moment, Since
from reconciler.model.revision import CommitInfo
from reconciler.render.terminal_status import DecisionView, decision

_DIGITS = 18  # of a generation; Python refuses to read numbers that are much longer


def moment(commit: CommitInfo, *, person: bool = False) -> Moment:
    """A status commit, by the server that it names; of the config branch by its author."""
    at = int(datetime.fromisoformat(commit.when_iso).timestamp())
    return Moment(commit.sha, at, commit.when_iso, commit.author_name if person else decision(commit).server)


def decided(commits: Iterable[CommitInfo]) -> Iterator[Decided]:
    """What each commit says in its message. One without a generation was made by hand and is passed over."""
    for commit in commits:
        told = decision(commit)
        if told.generation.isdecimal() and len(told.generation) <= _DIGITS:
            services = frozenset(_spoken_of(told))
            yield Decided(int(told.generation), moment(commit), services, begins=any(map(_begins, told.reasons)))


def _spoken_of(told: DecisionView) -> Iterator[str]:
    yield from (word for word in (reason.partition(" ")[0] for reason in told.reasons) if word.count("/") == 2)


def _begins(reason: str) -> bool:
    return reason.startswith("cluster state created") or "under a new epoch" in reason


@dataclass
class States:
    """What was live at commits of status/cluster: the spec by service, each commit read once."""

    git: GitReader
    known: dict[str, Mapping[str, str] | None] = field(default_factory=dict)

    def live(self, sha: str) -> Mapping[str, str] | None:
        """None when there was no readable decision."""
        if sha not in self.known:
            self.known[sha] = self._read(sha)
        return self.known[sha]

    def _read(self, sha: str) -> Mapping[str, str] | None:
        try:
            document: Any = parse(self.git.read_file(sha, "cluster.yaml") or b"")
            services = document["services"]
            return {str(name): str(state["live"]["spec"]) for name, state in services.items() if state.get("live")}
        except (ReconcilerError, yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None  # anybody can commit anything


def live_since(
    states: States, commits: list[CommitInfo], cluster: ClusterState | None, *, whole: bool
) -> tuple[Mapping[str, Since], frozenset[str]]:
    """The commit since which each service has what it has live, and the services for which the commits do not go back far enough.

    Only commits that speak of a service can have changed it, and those that speak of none, or that a hand made, anything.
    """
    searched = {name: state.live.spec for name, state in cluster.services.items() if state.live} if cluster is not None else {}
    equal = dict.fromkeys(searched, 0)
    found: dict[str, Since] = {}
    for index, commit in enumerate(commits):
        named = _may_change(commit) if index < len(commits) - 1 else None
        concerned = [name for name in searched if named is None or name in named]
        live = states.live(commit.sha) if concerned else None
        if live is None:
            continue
        for name in concerned:
            if live.get(name) == searched[name]:
                equal[name] = index
            else:
                found[name] = Since(moment(commits[equal[name]]))
                del searched[name]
        if not searched:
            break
    if whole:
        found |= {name: Since(moment(commits[equal[name]]), at_least=True) for name in searched if commits}
    return found, frozenset(searched)


def _may_change(commit: CommitInfo) -> frozenset[str] | None:
    """The services that a commit may have changed; None for any."""
    told = decision(commit)
    if not told.generation or any("/" not in r.partition(" ")[0] and not r.startswith(("config ", "brake")) for r in told.reasons):
        return None
    return frozenset(_spoken_of(told))
