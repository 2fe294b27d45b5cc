"""What runs on this server: looked at for a decision, then changed as planned."""

from __future__ import annotations

from reconciler.effects.pulses import Backend
from reconciler.engine.carrying import JOB as INSTANCE_JOB
from reconciler.engine.carrying import Carried, Carrier
from reconciler.engine.images import JOB as IMAGE_JOB
from reconciler.engine.images import Images
from reconciler.engine.observing import Observer
from reconciler.engine.performer import Performer
from reconciler.engine.reporting import Reporter
from reconciler.engine.texts import Texts
from reconciler.engine.world import Options, World
from reconciler.model.action import Reload, SignalInstance
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.identity import SLOTS
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import Condition
from reconciler.model.site import Site
from reconciler.plan.masks import pulse_targets, several
from reconciler.plan.planner import plan, stalls
from reconciler.plan.wanted import wanted


class OwnServer:
    """`site`: its names and settings, with the address that the inventory gives it now."""

    def __init__(self, world: World, site: Site, options: Options, texts: Texts, reporter: Reporter) -> None:
        self._pulses = world.pulses
        self._say = options.say
        self._texts = texts
        self._reporter = reporter
        self._images = Images(world.docker, world.git, world.jobs)
        self._observer = Observer(world.docker, world.nginx, world.prober, world.secrets, site, texts.render)
        performer = Performer(world.docker, world.nginx, options.watch, self._warn)
        self._carrier = Carrier(performer, self._images, world.clock, world.jobs, texts.render)
        self._warnings: dict[str, str] = {}
        self._desired: Desired | None = None
        self.site = site

    def finished(self, name: str, result: object) -> None:
        """Take the result of a job that concerns an image or one instance; others are left alone."""
        if name.startswith(IMAGE_JOB):
            self._images.finished(name.removeprefix(IMAGE_JOB), result)
        elif name.startswith(INSTANCE_JOB):
            self._carrier.finished(name, result)

    def situate(self, desired: Desired, cluster: ClusterState | None) -> None:
        """Take the address from the inventory; when this server is out of it, the recorded one, until its services have moved."""
        here = desired.servers.get(self.site.server)
        known = cluster.addresses if cluster is not None else {}
        address = here.address if here is not None else known.get(self.site.server)
        self.site = self.site.model_copy(update={"address": address})
        self._observer.site = self.site

    def observe(self, desired: Desired, cluster: ClusterState | None) -> Observed:
        """Look. Raises Transient when Docker does not answer."""
        dead = {address: pulse.error for address, pulse in self._pulses.pulses().items() if pulse.dead}
        images, heals = self._images.states(), self._carrier.heals()
        observed = self._observer.observe(desired, cluster, images, heals, dict(self._warnings), dead)
        errors = dict(self._carrier.start_errors())
        if cluster is not None:
            errors |= stalls(desired, cluster, observed, self._reporter.elapsed(cluster, observed), self.site)
        return observed.model_copy(update={"start_errors": errors, "starting": self._carrier.starting()})

    def conditions(self) -> tuple[Condition, ...]:
        """Steps that went wrong and are tried again."""
        return self._carrier.conditions()

    def carry_out(self, desired: Desired, cluster: ClusterState, observed: Observed, elapsed: Elapsed) -> Carried:
        """Plan what this server does now, and do it or begin it."""
        self._desired = desired
        intended = self._texts.intended(desired, cluster, observed, self.site, elapsed)
        targets = pulse_targets(desired, cluster, observed, several(intended))
        self._pulses.watch({address: Backend(target.path, target.timeout) for address, target in targets.items()})
        actions = plan(desired, cluster, observed, elapsed, self.site, intended)
        pids = self._observer.nginx_pids(observed)
        healing = frozenset(w.instance.name for w in wanted(desired, cluster, observed) if w.backend.role != "staged")
        for action in actions:
            if isinstance(action, SignalInstance):
                self._reporter.signalled(action.id)
        carried = self._carrier.carry_out(actions, pids, healing)
        tried = {config.name: config for action in carried.begun if isinstance(action, Reload) for config in action.configs}
        self._observer.switched(carried.switched, tried, pids)
        self._reporter.switched(carried.switched)
        for outcome in carried.switched:
            if not outcome.loaded:
                self._say(f"{outcome.name} refused its configuration: {outcome.state.error}")
        return carried

    def _warn(self, name: str, words: str) -> None:
        """Words about an instance are kept for its service; empty ones end them."""
        services = self._desired.services if self._desired is not None else {}
        instances = {
            key.instance(slot, replica).name: str(key)
            for key, s in services.items()
            for slot in SLOTS
            for replica in range(1, s.replicas + 1)
        }
        service = instances.get(name, name)
        if words:
            self._warnings[service] = words
            self._say(words)
        else:
            self._warnings.pop(service, None)
