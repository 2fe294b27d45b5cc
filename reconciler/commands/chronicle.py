"""Reads a whole cluster from a clone of its repository: the decision, the reports, and what the history adds to them.

Everything in the repository was written by others: what is missing, garbage, or from a newer program becomes a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import yaml

from reconciler.commands.reading import CLUSTER
from reconciler.effects.git import GitRepository
from reconciler.engine.following import read_cluster
from reconciler.engine.reports import read_report
from reconciler.errors import ReconcilerError
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import ServerEntry
from reconciler.model.overview import Decided, Facts, Moment, Overview, Since, Tip
from reconciler.model.report import Report
from reconciler.model.revision import CommitInfo, Refs
from reconciler.model.source import REGULAR, SourceFile
from reconciler.plan.overview import overview
from reconciler.plan.sources import read_sources
from reconciler.render.terminal_status import DecisionView, decision

INVENTORY = "cluster.yaml"
LOOKED_AT = (200, 10_000)
"""How many decisions are looked at: first few, and more only when something is older than these."""
REPORTS_LOOKED_AT = 8
"""How many of a server's last reports are compared, to notice two machines of one name."""
_INSTANCE = re.compile(rb"^instance: *['\"]?([A-Za-z0-9_-]{1,64})", re.MULTILINE)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where it is built in


def look(git: GitRepository, refs: Refs, now: int) -> Overview:
    """The cluster at what the last fetch found, `refs`. `now`: seconds since 1970. Raises Transient when the clone is damaged."""
    problems: list[str] = []
    cluster = _cluster(git, problems)
    reports, unreadable = _reports(git, refs)
    live: Mapping[str, Since] = {}
    decisions: tuple[Decided, ...] = ()
    for most in LOOKED_AT:
        commits = git.log(CLUSTER, most)
        decisions = tuple(_decided(commits))
        live, unfound = _live(_States(git), commits, cluster, whole=len(commits) < most)
        if len(commits) < most or (not unfound and _reaches(decisions, cluster, reports)):
            break
    facts = Facts(
        tip=_tip(git, refs, cluster),
        servers=_inventory(git, cluster.config if cluster is not None else refs.config, problems),
        subjects=_subjects(git, refs, cluster),
        decisions=decisions,
        live=live,
        reported={name: _moment(git.commit_info(sha)) for name, sha in refs.status.items() if name != "cluster"},
        machines={name: _machines(git, name) for name in refs.status if name != "cluster"},
        unreadable=unreadable,
        problems=tuple(problems),
    )
    return overview(cluster, reports, facts, now)


def _cluster(git: GitRepository, problems: list[str]) -> ClusterState | None:
    try:
        data = git.read_file(CLUSTER, "cluster.yaml")
        if data is None:
            found = git.log(CLUSTER, 1)
            what = "holds no cluster.yaml" if found else "is not there"
            problems.append(f"{CLUSTER} {what}: nothing was decided yet, or it was deleted; a member's next pass writes it")
            return None
        return read_cluster(data)
    except ValueError as error:
        problems.append(f"{error}: a member's next pass writes it anew from its own copy")
    except ReconcilerError as error:
        text = str(error).replace("upgrade this server's program", "it was written by a newer one; upgrade the program here")
        problems.append(text)
    return None


def _reports(git: GitRepository, refs: Refs) -> tuple[Mapping[str, Report], Mapping[str, str]]:
    reports: dict[str, Report] = {}
    unreadable: dict[str, str] = {}
    for name in sorted(refs.status):
        if name == "cluster":
            continue
        try:
            data = git.read_file(f"status/{name}", "report.yaml")
        except ReconcilerError as error:
            unreadable[name] = f"status/{name}: {error}"
            continue
        found = read_report(name, data) if data is not None else None
        if isinstance(found, Report):
            reports[name] = found
        else:
            unreadable[name] = found.message if found is not None else f"status/{name}: it holds no report.yaml"
    return reports, unreadable


def _inventory(git: GitRepository, revision: str, problems: list[str]) -> Mapping[str, ServerEntry] | None:
    """The servers of the followed revision, with their zones."""
    try:
        data = git.read_file(revision, INVENTORY)
    except ReconcilerError:
        problems.append(f"the config at {revision[:7]}, which is followed, is not in the repository: zones are not known")
        return None
    if data is None:
        return None  # without an inventory there is one server
    sources = read_sources({INVENTORY: SourceFile(INVENTORY, REGULAR, "", data)})
    if sources.cluster is None:
        first = str(sources.cluster_problems[0]) if sources.cluster_problems else "it is not an inventory"
        problems.append(f"the inventory at {revision[:7]} is invalid: {first}")
        return None
    return {
        name: ServerEntry(name=name, address=entry.address, zone=entry.zone, state=entry.state)
        for name, entry in sources.cluster.servers.items()
    }


def _tip(git: GitRepository, refs: Refs, cluster: ClusterState | None) -> Tip:
    followed = cluster.config if cluster is not None else refs.config
    with suppress(ReconcilerError):
        contains = git.is_ancestor(followed, refs.config)
        ahead = git.count_between(followed, refs.config) if contains else None
        return Tip(refs.config, _moment(git.commit_info(refs.config), person=True), ahead)
    return Tip(refs.config, _moment(git.commit_info(refs.config), person=True), None)


def _subjects(git: GitRepository, refs: Refs, cluster: ClusterState | None) -> Mapping[str, str]:
    wanted = {refs.config}
    if cluster is not None:
        wanted.add(cluster.config)
        for state in cluster.services.values():
            wanted |= {at.revision for at in (state.live, state.rollout, state.rejected) if at is not None}
    subjects = {}
    for revision in sorted(wanted):
        with suppress(ReconcilerError):
            subjects[revision] = git.commit_info(revision).subject
    return subjects


def _machines(git: GitRepository, name: str) -> tuple[str, ...]:
    """The instances that wrote a server's last reports, the newest first, neighbours differ."""
    found: list[str] = []
    with suppress(ReconcilerError):
        for commit in git.log(f"status/{name}", REPORTS_LOOKED_AT):
            match = _INSTANCE.search(git.read_file(commit.sha, "report.yaml") or b"")
            if match and found[-1:] != [match[1].decode()]:
                found.append(match[1].decode())
    return tuple(found)


def _moment(commit: CommitInfo, *, person: bool = False) -> Moment:
    """A status commit, by the server that it names; of the config branch by its author."""
    at = int(datetime.fromisoformat(commit.when_iso).timestamp())
    return Moment(commit.sha, at, commit.when_iso, commit.author_name if person else decision(commit).server)


def _decided(commits: Iterable[CommitInfo]) -> Iterator[Decided]:
    """What each commit says in its message. One without a generation was made by hand and is passed over."""
    for commit in commits:
        told = decision(commit)
        if told.generation.isdecimal():
            services = frozenset(_spoken_of(told))
            yield Decided(int(told.generation), _moment(commit), services, begins=any(map(_begins, told.reasons)))


def _spoken_of(told: DecisionView) -> Iterator[str]:
    yield from (word for word in (reason.partition(" ")[0] for reason in told.reasons) if word.count("/") == 2)


def _begins(reason: str) -> bool:
    return reason.startswith("cluster state created") or "under a new epoch" in reason


def _reaches(decisions: tuple[Decided, ...], cluster: ClusterState | None, reports: Mapping[str, Report]) -> bool:
    """Whether the decisions looked at go back to what every report has acknowledged, or to the beginning of the epoch."""
    if cluster is None or not decisions or any(decided.begins for decided in decisions):
        return True
    lowest = min((r.serving.generation for r in reports.values() if r.serving and r.serving.epoch == cluster.epoch), default=0)
    return decisions[-1].generation <= lowest


@dataclass
class _States:
    """What was live at commits of status/cluster: the spec by service, each commit read once."""

    git: GitRepository
    known: dict[str, Mapping[str, str] | None] = field(default_factory=dict)

    def live(self, sha: str) -> Mapping[str, str] | None:
        """None when there was no readable decision."""
        if sha not in self.known:
            self.known[sha] = self._read(sha)
        return self.known[sha]

    def _read(self, sha: str) -> Mapping[str, str] | None:
        try:
            document = yaml.load(self.git.read_file(sha, "cluster.yaml") or b"", Loader=_LOADER)
            services = document["services"]
            return {str(name): str(state["live"]["spec"]) for name, state in services.items() if state.get("live")}
        except (ReconcilerError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            return None


def _live(
    states: _States, commits: list[CommitInfo], cluster: ClusterState | None, *, whole: bool
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
                found[name] = Since(_moment(commits[equal[name]]))
                del searched[name]
        if not searched:
            break
    if whole:
        found |= {name: Since(_moment(commits[equal[name]]), at_least=True) for name in searched if commits}
    return found, frozenset(searched)


def _may_change(commit: CommitInfo) -> frozenset[str] | None:
    """The services that a commit may have changed; None for any."""
    told = decision(commit)
    if not told.generation or any("/" not in r.partition(" ")[0] and not r.startswith(("config ", "brake")) for r in told.reasons):
        return None
    return frozenset(_spoken_of(told))
