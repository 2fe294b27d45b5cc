"""Reads a whole cluster from a clone of its repository: the decision, the reports, and what the history adds to them.

Everything in the repository was written by others: what is missing, garbage, or from a newer program becomes a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from reconciler.commands.reading import CLUSTER
from reconciler.commands.since import States, decided, live_since, moment
from reconciler.effects.git import GitRepository
from reconciler.engine.following import read_cluster
from reconciler.engine.reports import read_report
from reconciler.errors import ReconcilerError
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import ServerEntry
from reconciler.model.overview import Decided, Facts, Overview, Since, Tip
from reconciler.model.report import Report
from reconciler.model.revision import Refs
from reconciler.model.source import REGULAR, SourceFile
from reconciler.plan.overview import overview
from reconciler.plan.sources import read_sources

INVENTORY = "cluster.yaml"
LOOKED_AT = (200, 10_000)
"""How many decisions are looked at: first few, and more only when something is older than these."""
REPORTS_LOOKED_AT = 8
"""How many of a server's last reports are compared, to notice two machines of one name."""
_INSTANCE = re.compile(rb"^instance: *['\"]?([A-Za-z0-9_-]{1,64})", re.MULTILINE)


def look(git: GitRepository, refs: Refs, now: int) -> Overview:
    """The cluster at what the last fetch found, `refs`. `now`: seconds since 1970. Raises Transient when the clone is damaged."""
    problems: list[str] = []
    cluster = _cluster(git, problems)
    reports, unreadable = _reports(git, refs)
    live: Mapping[str, Since] = {}
    decisions: tuple[Decided, ...] = ()
    for most in LOOKED_AT:
        commits = git.log(CLUSTER, most)
        decisions = tuple(decided(commits))
        live, unfound = live_since(States(git), commits, cluster, whole=len(commits) < most)
        if len(commits) < most or (not unfound and _reaches(decisions, cluster, reports)):
            break
    facts = Facts(
        tip=_tip(git, refs, cluster),
        servers=_inventory(git, cluster.config if cluster is not None else refs.config, problems),
        subjects=_subjects(git, refs, cluster),
        decisions=decisions,
        live=live,
        reported={name: moment(git.commit_info(sha)) for name, sha in refs.status.items() if name != "cluster"},
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
        return Tip(refs.config, moment(git.commit_info(refs.config), person=True), ahead)
    return Tip(refs.config, moment(git.commit_info(refs.config), person=True), None)


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


def _reaches(decisions: tuple[Decided, ...], cluster: ClusterState | None, reports: Mapping[str, Report]) -> bool:
    """Whether the decisions looked at go back to what every report has acknowledged, or to the beginning of the epoch."""
    if cluster is None or not decisions or any(decided.begins for decided in decisions):
        return True
    lowest = min((r.serving.generation for r in reports.values() if r.serving and r.serving.epoch == cluster.epoch), default=0)
    return decisions[-1].generation <= lowest
