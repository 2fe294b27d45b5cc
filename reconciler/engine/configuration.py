"""From the files of the last poll to `Desired`, with the specs of other revisions that still run somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from reconciler.engine.ports import Snapshot
from reconciler.errors import Invalid
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired, DesiredService, Revision, ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Observed
from reconciler.model.policy import Policy
from reconciler.model.report import Condition
from reconciler.model.source import Files
from reconciler.plan.desired import library, resolve

Spec = tuple[ServiceKey, str]


class Configuration:
    """Remembers files by revision and what was made of them. Invalid never means removed: the last valid state stays."""

    def __init__(self, server: str, policy: Policy, *, refuse_rewrite: bool) -> None:
        self._server = server
        self._policy = policy
        self._refuse_rewrite = refuse_rewrite
        self._files: dict[str, Files] = {}
        self._revision: Revision | None = None
        self._resolved: Desired | None = None
        self._library: dict[Spec, DesiredService | None] = {}
        self._invalid: Invalid | None = None
        self._desired: Desired | None = None
        self.held: str | None = None

    def take(self, snapshot: Snapshot) -> None:
        """Follow what a poll brought, unless history was rewritten and this server refuses that."""
        if snapshot.rewritten is not None and self._refuse_rewrite and self._revision is not None:
            self.held = (
                f"the config branch was rewritten: {snapshot.revision.short} does not descend from {snapshot.rewritten[:7]}; "
                "staying there. Restore the branch, or set `on_rewrite: accept` in the settings"
            )
        if self.held is not None and snapshot.revision.sha != (self._revision.sha if self._revision else None):
            self._files |= snapshot.files
            return
        self.held = None
        self._files = dict(snapshot.files)
        self._library = {spec: found for spec, found in self._library.items() if found is not None}
        if self._revision is None or self._revision.sha != snapshot.revision.sha:
            self._revision = snapshot.revision
            self._invalid = None
            self._desired = None

    def desired(self, cluster: ClusterState | None, observed: Observed | None) -> Desired:
        """What is desired now. Raises Invalid when nothing valid is known at all."""
        assert self._revision is not None
        missing = [(k, d, r) for k, d, r in _specs(cluster, observed) if (k, d) not in self._library and r in self._files]
        for key, digest, revision in missing:
            files = self._files.get(revision)
            if files is not None:
                found = library(files, key, self._server, self._policy)
                self._library[key, digest] = next((service for service in found if service.spec.digest == digest), None)
        if self._desired is None or missing:
            self._desired = self._resolve(self._revision, cluster)
        return self._desired

    def needed(self, cluster: ClusterState | None, observed: Observed | None) -> frozenset[str]:
        """Revisions whose files are wanted besides the tip's."""
        revisions = {revision for _, _, revision in _specs(cluster, observed)}
        if cluster is not None:
            revisions.add(cluster.config)
        return frozenset(revision for revision in revisions if revision)

    def lacking(self, cluster: ClusterState | None, observed: Observed | None) -> bool:
        """Whether a poll would bring the files of a revision that is not here."""
        return any(
            revision and revision not in self._files and (key, digest) not in self._library and not self._current(key, digest)
            for key, digest, revision in _specs(cluster, observed)
        )

    def unread(self, cluster: ClusterState | None) -> frozenset[str]:
        """Revisions without whose files nobody knows what is live, such as after a start with an empty state directory."""
        named = {
            revision
            for key, digest, revision in _specs(cluster, None)
            if revision and revision not in self._files and (key, digest) not in self._library and not self._current(key, digest)
        }
        if cluster is not None and self._resolved is None and cluster.config not in self._files:
            named.add(cluster.config)  # what is invalid now was valid there
        return frozenset(named)

    def conditions(self) -> tuple[Condition, ...]:
        """What keeps the config from being followed."""
        found = []
        if self.held is not None:
            found.append(Condition(type="ConfigFollowed", status=False, reason="HistoryRewritten", message=self.held))
        if self._invalid is not None:
            text = "; ".join(str(problem) for problem in self._invalid.problems[:5])
            found.append(Condition(type="ConfigValid", status=False, reason="InvalidConfig", message=text))
        return tuple(found)

    def _resolve(self, revision: Revision, cluster: ClusterState | None) -> Desired:
        specs: Mapping[Spec, DesiredService] = {spec: found for spec, found in self._library.items() if found is not None}
        previous = self._resolved or self._from_cluster(cluster, specs)
        try:
            resolved = resolve(self._files[revision.sha], self._server, self._policy, revision, previous)
        except Invalid as error:
            self._invalid = error
            if previous is None:
                raise
            return previous.model_copy(update={"library": specs})
        self._resolved = resolved
        return resolved.model_copy(update={"library": specs})

    def _from_cluster(self, cluster: ClusterState | None, specs: Mapping[Spec, DesiredService]) -> Desired | None:
        """After a restart: the last valid state of each service is what is live."""
        if cluster is None:
            return None
        services = {}
        for name, state in cluster.services.items():
            key = ServiceKey.parse(name)
            found = specs.get((key, state.live.spec)) if state.live is not None else None
            if found is not None:
                services[key] = found
        servers = {member: ServerEntry(name=member) for member in cluster.members}
        files = self._files.get(cluster.config)
        if files is not None:
            # If that revision's inventory was unreadable too, the members are what is known.
            with suppress(Invalid):
                servers = dict(resolve(files, self._server, self._policy, Revision(sha=cluster.config)).servers)
        return Desired(revision=Revision(sha=cluster.config), servers=servers, services=services)

    def _current(self, key: ServiceKey, digest: str) -> bool:
        service = self._resolved.services.get(key) if self._resolved is not None else None
        return service is not None and service.spec.digest == digest


def _specs(cluster: ClusterState | None, observed: Observed | None) -> Iterable[tuple[ServiceKey, str, str]]:
    """(service, digest, revision) of everything that is live, being rolled out, or still running."""
    for name, state in cluster.services.items() if cluster is not None else ():
        key = ServiceKey.parse(name)
        if state.live is not None:
            yield key, state.live.spec, state.live.revision
        for other in state.others:
            yield key, other.spec, other.revision
        if state.rollout is not None and state.rollout.target:
            yield key, state.rollout.target, state.rollout.revision
    for container in observed.containers if observed is not None else ():
        labels = container.labels
        if labels.service is not None and labels.role == "application":
            yield labels.service, labels.spec, labels.revision
