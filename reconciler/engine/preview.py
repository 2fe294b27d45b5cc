"""What the next pass would decide and do, from the same parts as the pass itself, with nothing carried out (`reconcile plan`).

Only calls that read are made: of Docker, of nginx's endpoints and of the secrets directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.effects.probes import Target
from reconciler.engine.configuration import Configuration
from reconciler.engine.observing import Observer
from reconciler.engine.ports import DockerPort, NginxPort, SecretsPort, Snapshot
from reconciler.errors import ReconcilerError, Stalled
from reconciler.model.action import Action, PrepareImage
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.desired import Desired, Revision
from reconciler.model.effect import SwitchTarget
from reconciler.model.observed import Elapsed, Gate, Image, ImageState, NginxState, Observed
from reconciler.model.policy import Policy
from reconciler.model.report import Report
from reconciler.model.site import Site
from reconciler.model.source import Files
from reconciler.model.switched import Switched
from reconciler.plan.decide import decide
from reconciler.plan.nginxes import Intended, configs
from reconciler.plan.planner import plan
from reconciler.plan.rebuild import rebuild
from reconciler.plan.reporting import report as make_report
from reconciler.render.nginx import render

DECISIONS_MOST = 20
EPOCH = "preview"
_NOW = Elapsed()


@dataclass(frozen=True)
class Question:
    """What to look at. `files` gives those of a revision, None if not known here. `cluster` None: rebuilt from what runs."""

    site: Site
    policy: Policy
    revision: Revision
    files: Callable[[str], Files | None]
    cluster: ClusterState | None
    reports: Mapping[str, Report]
    program: str


@dataclass(frozen=True)
class Seen:
    """What is desired and what is there. `rebuilt`: `cluster` was found again from what runs, as no decision is at hand."""

    desired: Desired
    observed: Observed
    cluster: ClusterState
    rebuilt: bool
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Preview:
    """The decision as it would be after the pass, with its reasons, and the actions in their order."""

    seen: Seen
    after: ClusterState
    reasons: tuple[str, ...]
    actions: tuple[Action, ...]


def look(question: Question, docker: DockerPort, nginx: NginxPort, secrets: SecretsPort) -> Seen:
    """Gather desired and observed. Raises Transient (Docker), Invalid (nothing is valid at all)."""
    site = question.site
    running = Observed(server=site.server, containers=docker.containers()[0])
    configuration = Configuration(site.server, question.policy, refuse_rewrite=False)
    revisions = {*configuration.needed(question.cluster, running), question.revision.sha}
    files = {sha: found for sha in sorted(revisions) if (found := question.files(sha)) is not None}
    configuration.take(_snapshot(question.revision, files))
    desired = configuration.desired(question.cluster, running)
    careful = _Unsure(nginx)
    observer = Observer(docker, careful, _NoProbes(), secrets, site)
    observed = observer.observe(desired, question.cluster, {}, {}, {}, {})
    cluster = question.cluster or _rebuilt(question, desired, observed)
    observed = observed.model_copy(update={"images": _images(docker, desired)})
    return Seen(desired, observed, cluster, rebuilt=question.cluster is None, unread=tuple(sorted(careful.unread)))


def preview(question: Question, seen: Seen) -> Preview:
    """Decide as often as a pass would, and plan once."""
    site, desired, observed, cluster = question.site, seen.desired, seen.observed, seen.cluster
    reasons: list[str] = []
    report: Report | None = question.reports.get(site.server)
    for _ in range(DECISIONS_MOST):
        intended = _intended(desired, cluster, observed, site)
        report = make_report(
            desired, cluster, observed, site, intended, report, identity="", program=question.program, elapsed=_NOW
        )
        decision = decide(
            desired,
            cluster,
            {**question.reports, site.server: report},
            _NOW,
            decider=Decider(server=site.server, program=question.program),
            fresh_epoch=EPOCH,
        )
        if decision.cluster == cluster:
            break
        reasons += decision.reasons
        cluster = decision.cluster
    intended = _intended(desired, cluster, observed, site)
    unsure = {name: want for name, want in intended.items() if name not in seen.unread}
    first = plan(desired, cluster, observed, _NOW, site, unsure)
    return Preview(seen, cluster, tuple(reasons), _with_images(first, desired, cluster, observed, site, unsure))


def _with_images(
    first: tuple[Action, ...],
    desired: Desired,
    cluster: ClusterState,
    observed: Observed,
    site: Site,
    intended: Mapping[str, Intended],
) -> tuple[Action, ...]:
    """What is started waits for its image: show the image's preparation, and what follows as if it were there.

    An image is asked for by each rollout on its own, as a tag may mean something else by then: what follows is looked at for each.
    """
    images = [action for action in first if isinstance(action, PrepareImage)]
    if not images:
        return first
    actions: list[Action] = list({(action.reference, action.build): action for action in images}.values())
    for attempt in sorted({action.attempt for action in images}):
        there = {a.reference: _present(a) for a in images if a.attempt == attempt}
        later = observed.model_copy(update={"images": {**observed.images, **there}})
        follows = plan(desired, cluster, later, _NOW, site, intended)
        actions += [action for action in follows if not isinstance(action, PrepareImage) and action not in actions]
    return tuple(actions)


def _present(wish: PrepareImage) -> ImageState:
    return ImageState(status="present", image=Image(id=wish.reference, reference=wish.reference), attempt=wish.attempt)


def _intended(desired: Desired, cluster: ClusterState, observed: Observed, site: Site) -> dict[str, Intended]:
    found = configs(desired, cluster, observed, site)
    return {name: Intended(config, render(config).fingerprint) for name, config in found.items()}


def _rebuilt(question: Question, desired: Desired, observed: Observed) -> ClusterState:
    """As the program does it that finds its decision lost, but with nobody left to wait for: it is only looked at."""
    server = question.site.server
    report = make_report(desired, None, observed, question.site, {}, None, identity="", program=question.program, elapsed=_NOW)
    services = {name: state.model_copy(update={"rollout": None}) for name, state in rebuild(desired, {server: report}).items()}
    return ClusterState(
        epoch=EPOCH,
        generation=1,
        decided_by=Decider(server=server, program=question.program),
        members=(server,),
        config=desired.revision.sha,
        services=services,
    )


def _images(docker: DockerPort, desired: Desired) -> Mapping[str, ImageState]:
    """Which of the images that may be asked for are here."""
    services = (*desired.services.values(), *desired.library.values())
    names = {service.spec.build.tag if service.spec.build else service.spec.image or "" for service in services} - {""}
    found = {name: docker.image(name) for name in sorted(names)}
    return {name: ImageState(status="present", image=image) for name, image in found.items() if image is not None}


def _snapshot(revision: Revision, files: Mapping[str, Files]) -> Snapshot:
    return Snapshot(revision=revision, files=files, cluster=None, cluster_oid=None, reports={}, report_oids={})


class _NoProbes:
    """Nothing is probed for a preview."""

    def watch(self, targets: Mapping[str, Target]) -> None:
        """Nothing to do."""

    def gates(self) -> Mapping[str, Gate]:
        """No gate is known."""
        return {}


class _Unsure:
    """The nginxes of this server, of which those that cannot be asked from here (without root) are remembered by name."""

    def __init__(self, nginx: NginxPort) -> None:
        self._nginx = nginx
        self.unread: set[str] = set()

    def write(self, name: str, text: str) -> None:
        """Refused: nothing is changed here."""
        raise _changing(name)

    def forget(self, name: str) -> None:
        """Refused: nothing is changed here."""
        raise _changing(name)

    def read(self, name: str) -> str | None:
        """As found."""
        return self._nginx.read(name)

    def switch(self, targets: Sequence[tuple[SwitchTarget, int]]) -> Sequence[Switched]:
        """Refused: nothing is changed here."""
        raise _changing(", ".join(target.name for target, _ in targets))

    def state(self, name: str, pid: int, port: int) -> NginxState:
        """As found; without anything loaded when that cannot be seen."""
        try:
            found = self._nginx.state(name, pid, port)
        except (ReconcilerError, OSError):
            found = NginxState(name=name)
        if found.loaded is None:
            self.unread.add(name)
        return found

    def complaint(self, name: str) -> str | None:
        """As found."""
        return self._nginx.complaint(name)

    def version(self, name: str) -> tuple[int, int, int]:
        """As found."""
        return self._nginx.version(name)

    def connections(self, pid: int, port: int) -> int:
        """As counted; 1 where that cannot be seen, so that nothing is taken for drained."""
        try:
            return self._nginx.connections(pid, port)
        except (ReconcilerError, OSError):
            return 1


def _changing(name: str) -> Stalled:
    return Stalled(f"{name} is only looked at in a preview, and something tried to change it", reason="Preview")
