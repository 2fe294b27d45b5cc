"""One pass: take results, observe, decide, plan, carry out, report, publish. Called again and again; it never waits for a network.

The pass is level-triggered: it looks at what is, not at what happened. Whatever takes long is a background job whose result the
next pass finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.effects.pulses import Backend
from reconciler.engine.carrying import JOB as INSTANCE_JOB
from reconciler.engine.carrying import Carrier
from reconciler.engine.configuration import Configuration
from reconciler.engine.copies import keep_copy, load_copy
from reconciler.engine.following import Copy, follow
from reconciler.engine.images import JOB as IMAGE_JOB
from reconciler.engine.images import Images
from reconciler.engine.observing import Observer
from reconciler.engine.performer import Performer
from reconciler.engine.ports import Snapshot
from reconciler.engine.publishing import CLUSTER, PUSH_JOB, Publisher, Worth
from reconciler.engine.reports import read_reports
from reconciler.engine.requests import wishes
from reconciler.engine.standing import check_name, may_decide, sole
from reconciler.engine.texts import Texts
from reconciler.engine.times import Times
from reconciler.engine.turns import GATHER_SECONDS, Turns, fast_poll, rank, stagger
from reconciler.engine.world import Options, Outcome, World
from reconciler.errors import ReconcilerError, Transient
from reconciler.model.action import Reload, SignalInstance
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.desired import Desired
from reconciler.model.identity import SLOTS
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import Condition, Report
from reconciler.model.routes import NginxConfig
from reconciler.model.site import Site
from reconciler.model.switched import Switched
from reconciler.plan import facts
from reconciler.plan.activity import ending, kept_images, under_way
from reconciler.plan.awaited import awaited, gathers, only_words, resolves, telling
from reconciler.plan.decide import decide
from reconciler.plan.masks import pulse_targets, several
from reconciler.plan.planner import plan, stalls
from reconciler.plan.rebuild import unsettled
from reconciler.plan.reporting import report as make_report
from reconciler.plan.wanted import wanted

POLL_JOB = "poll"
RECALL_JOB = "recall"
GIT_LANE = "git"
CLEAN_JOB = "clean images"
COMPACT_JOB = "compact"
DECISIONS_MOST = 20
WORDS_SECONDS = 30.0


class Cycle:
    """The engine's memory between passes. One thread calls it."""

    def __init__(self, world: World, site: Site, options: Options) -> None:
        self._world = world
        self._site = site
        self._options = options
        self._warnings: dict[str, str] = {}
        self._texts = Texts()
        self._times = Times(world.clock, world.journal)
        self._images = Images(world.docker, world.git, world.jobs)
        self._observer = Observer(world.docker, world.nginx, world.prober, world.secrets, site, self._texts.render)
        performer = Performer(world.docker, world.nginx, options.watch, self._warn)
        self._carrier = Carrier(performer, self._images, world.clock, world.jobs, self._texts.render)
        self._configuration = Configuration(site.server, options.policy, refuse_rewrite=options.refuse_rewrite)
        self._publisher = Publisher(world, site.server, options.pushes_per_minute, GIT_LANE)
        self._snapshot: Snapshot | None = None
        self._own: Copy | None = load_copy(world.journal, options.say)
        self._reports: Mapping[str, Report] = {}
        self._report: Report | None = None
        self._notices: dict[str, Condition] = {}
        self._verified_ms: float | None = None
        self._words_since: float | None = None
        self._turns = Turns(world.clock)
        self._turn_in: float | None = None
        self._overtaken = False
        self._asked: frozenset[str] = frozenset()
        self._sought: frozenset[str] = frozenset()
        self.passes = 0
        self.poll_error: ReconcilerError | None = None
        self.desired: Desired | None = None
        self.observed: Observed | None = None

    @property
    def cluster(self) -> ClusterState | None:
        """The decision that is followed now."""
        return self._own.cluster if self._own is not None else None

    @property
    def report(self) -> Report | None:
        """What this server said last."""
        return self._report

    @property
    def publisher(self) -> Publisher:
        """How publishing goes."""
        return self._publisher

    @property
    def deciding(self) -> bool:
        """Whether there is something to decide for which this server waits for its turn."""
        return self._turn_in is not None

    def poll(self) -> bool:
        """Ask for a fetch in the background; False when one is under way."""
        needed = self._configuration.needed(self.cluster, self.observed)
        followed = self.cluster.config if self.cluster is not None else None
        asked = self._world.jobs.submit(POLL_JOB, lambda: self._world.git.poll(needed, followed), lane=GIT_LANE)
        if asked:
            self._asked = needed
        return asked

    def recall(self) -> None:
        """Begin with what the last fetch left, so that healing does not wait for a remote that does not answer."""
        needed = self._asked = self._configuration.needed(self.cluster, None)
        followed = self.cluster.config if self.cluster is not None else None
        self._world.jobs.submit(RECALL_JOB, lambda: self._world.git.last(needed, followed), lane=GIT_LANE)

    def clean_images(self) -> bool:
        """Remove built images that nothing uses, in the background; live, previous and wanted ones are kept."""
        if self.cluster is None or self.desired is None:
            return False
        keep = kept_images(self.desired, self.cluster)
        return self._world.jobs.submit(CLEAN_JOB, lambda: self._world.docker.remove_unused_images(keep), lane="images")

    def compact(self) -> bool:
        """Shorten long histories of status refs, in the background and only when all is quiet: the own report's, and the cluster
        state's if it is this server that decided last, so that one does it."""
        cluster, after = self.cluster, self._options.compact_after
        if not after or cluster is None or self._publisher.pending or self._publisher.proposing or under_way(cluster):
            return False
        server = self._site.server
        decider = server in cluster.members and rank(server, cluster.members, cluster.decided_by.server) == 0
        refs = (server, CLUSTER) if decider else (server,)
        return self._world.jobs.submit(COMPACT_JOB, lambda: self._world.git.compact(refs, after), lane=GIT_LANE)

    def step(self, *, flush: bool = False) -> Outcome:
        """One pass. `flush`: push what there is to say without regard to the budget (the last pass of `--once`)."""
        self.passes += 1
        try:
            return self._step(flush)
        except ReconcilerError as error:
            return Outcome(problem=error, next_in=5.0)

    def _step(self, flush: bool) -> Outcome:
        self._take_results()
        if self._snapshot is None:
            if self.poll_error is not None and self._own is None:
                return Outcome(problem=self.poll_error)
            return Outcome(next_in=1.0)  # the first poll is under way
        if self.poll_error is None and self._configuration.unread(self.cluster) - self._sought:
            # Planning without the files of what is live would take down the edge and put it up again.
            self.poll()
            return Outcome(next_in=1.0)
        desired = self._desire()
        dead = {address: pulse.error for address, pulse in self._world.pulses.pulses().items() if pulse.dead}
        observed = self._observer.observe(
            desired, self.cluster, self._images.states(), self._carrier.heals(), dict(self._warnings), dead
        )
        observed = self._with_start_errors(desired, observed)
        self.desired, self.observed = desired, observed
        if not self._publisher.spoken:
            check_name(self._site.server, self._options.identity, self._reports.get(self._site.server), observed)
        decided = self._decide_all(desired, observed)
        desired = self.desired  # deciding may have needed other revisions' specs
        cluster = self.cluster
        if cluster is None:
            self._publish(flush)
            found = unsettled({self._site.server: self._report}) if self._report is not None else ()
            waiting = dict.fromkeys(found, "found running: its health gate tells whether it is live")
            waits = [t for t in (self._publisher.next_in, self._turn_in) if t is not None]
            poll_in = fast_poll(len(desired.servers))
            return Outcome(next_in=min(waits, default=None), active=waiting, problem=self._unpublished(), poll_in=poll_in)
        elapsed = self._elapsed(cluster, observed)
        intended = self._texts.intended(desired, cluster, observed, self._site, elapsed)
        targets = pulse_targets(desired, cluster, observed, several(intended))
        self._world.pulses.watch({address: Backend(target.path, target.timeout) for address, target in targets.items()})
        actions = plan(desired, cluster, observed, elapsed, self._site, intended)
        pids = self._observer.nginx_pids(observed)
        healing = frozenset(w.instance.name for w in wanted(desired, cluster, observed) if w.backend.role != "staged")
        for action in actions:
            if isinstance(action, SignalInstance):
                self._times.mark(facts.signalled(action.id))
        carried = self._carrier.carry_out(actions, pids, healing)
        tried = {config.name: config for action in carried.begun if isinstance(action, Reload) for config in action.configs}
        self._switched(carried.switched, tried, pids)
        self._publish(flush)
        due = self._due(cluster, observed, elapsed)
        waits = [t for t in (carried.next_in, self._publisher.next_in, self._turn_in, due) if t is not None]
        return Outcome(
            busy=bool(carried.begun) or decided,
            next_in=min(waits, default=None),
            active={**ending(cluster, observed), **under_way(cluster)},
            problem=self.poll_error,
            poll_in=fast_poll(len(cluster.members)) if self._awaits_others(cluster) else None,
        )

    def _awaits_others(self, cluster: ClusterState) -> bool:
        """A rollout among several, something to decide that another one may decide first, or not being a member yet."""
        several = len(cluster.members) > 1
        return (several and (bool(under_way(cluster)) or self._turn_in is not None)) or self._site.server not in cluster.members

    def _with_start_errors(self, desired: Desired, observed: Observed) -> Observed:
        errors = dict(self._carrier.start_errors())
        cluster = self.cluster
        if cluster is not None:
            errors |= stalls(desired, cluster, observed, self._elapsed(cluster, observed), self._site)
        return observed.model_copy(update={"start_errors": errors})

    # Taking in

    def _take_results(self) -> None:
        for name, result in self._world.jobs.take():
            if name == POLL_JOB:
                self._polled(result)
            elif name == RECALL_JOB:
                # Whatever is wrong with the clone, the poll that follows repairs it or says so.
                if isinstance(result, Snapshot) and self._own is not None:
                    self._sought = self._asked
                    self._take_in(result)
            elif name == PUSH_JOB:
                self._pushed(result)
            elif name.startswith(IMAGE_JOB):
                self._images.finished(name.removeprefix(IMAGE_JOB), result)
            elif name.startswith(INSTANCE_JOB):
                self._carrier.finished(name, result)
            elif name == COMPACT_JOB and isinstance(result, tuple) and result:
                self._options.say(f"shortened the history of {', '.join(f'status/{ref}' for ref in result)}")
                self.poll()  # the tips are others now
            elif name == CLEAN_JOB and isinstance(result, tuple) and result:
                self._options.say(f"removed {len(result)} images that nothing uses any more")

    def _polled(self, result: object) -> None:
        if isinstance(result, ReconcilerError):
            self.poll_error = result
            return
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, Snapshot)
        self.poll_error = result.error
        self._sought = self._asked
        self._take_in(result)

    def _take_in(self, result: Snapshot) -> None:
        self._overtaken = False
        self._snapshot = result
        self._configuration.take(result)
        self._reports, problems = read_reports(result.reports, self._site.server)
        self._publisher.polled(result)
        followed = follow(
            result.cluster if self._options.status else None,
            result.cluster_oid if self._options.status else None,
            self._own,
            server=self._site.server,
            epoch=self._options.epoch(),
            accepted=not self._options.status,
        )
        self._notices = {condition.message: condition for condition in problems}
        if followed.notice is not None:
            self._options.say(followed.notice)
        if followed.cluster is None:
            self._own = None
        elif self._own is None or followed.cluster is not self._own.cluster or followed.based_on != self._own.based_on:
            self._keep(Copy(followed.cluster, followed.based_on, followed.reasons))

    def _pushed(self, result: object) -> None:
        outcome = self._publisher.finished(result)
        if outcome.cluster is not None:
            landed, oid, said = outcome.cluster
            self._tell(outcome.reasons)
            if self._own is None or outcome.adopt:
                self._keep(Copy(landed, oid))
            else:
                self._keep(Copy(self._own.cluster, oid, self._own.reasons[said:]))
        if outcome.poll:
            self._overtaken = True  # nothing is decided on the old tip again
            self.poll()

    def _desire(self) -> Desired:
        desired = self._configuration.desired(self.cluster, self.observed)
        here = desired.servers.get(self._site.server)
        known = self.cluster.addresses if self.cluster is not None else {}  # out of the inventory, until its services have moved
        address = here.address if here is not None else known.get(self._site.server)
        self._site = self._site.model_copy(update={"address": address})
        self._observer.site = self._site
        if self._configuration.lacking(self.cluster, self.observed):
            self.poll()
        return desired

    def _keep(self, own: Copy) -> None:
        """Remember, durably, before anything is done because of it."""
        self._own = own
        keep_copy(self._world.journal, own)

    # Deciding

    def _decide_all(self, desired: Desired, observed: Observed) -> bool:
        """Decide until nothing changes. A sole member decides by itself; others only after their decision has landed."""
        decided = False
        self._turn_in = None
        for _ in range(DECISIONS_MOST):
            cluster = self.cluster
            self._report = self._make_report(desired, cluster, observed)
            if not self._may_decide(cluster):
                return decided
            reports = {**self._reports, self._site.server: self._report}
            if cluster is None and unsettled(reports):
                return decided  # what was never healthy must not become what is live
            decision = decide(
                desired,
                cluster,
                reports,
                self._elapsed(cluster, observed),
                decider=Decider(server=self._site.server, program=self._options.program),
                fresh_epoch=self._options.epoch(),
            )
            if cluster is not None and decision.cluster == cluster:
                self._words_since = None
                self._turns.nothing()
                return decided
            if not self._sole():
                if self._is_our_turn(desired, cluster, decision.cluster):
                    self._publisher.propose(decision.cluster, self._own, decision.reasons)
                return decided
            self._tell(decision.reasons)
            decided = True
            own = self._own
            based_on = own.based_on if own is not None else None
            self._keep(Copy(decision.cluster, based_on, (*(own.reasons if own is not None else ()), *decision.reasons)))
            self.desired = desired = self._desire()
        return decided

    def _is_our_turn(self, desired: Desired, cluster: ClusterState | None, decided: ClusterState) -> bool:
        """Whether to propose it now. What this server's own news brings about rides with them; else the members take turns."""
        server, own = self._site.server, self._own
        members = cluster.members if cluster is not None else tuple(desired.servers)
        place = rank(server, members, cluster.decided_by.server if cluster is not None else None)
        if cluster is not None and self._mere_words(cluster, decided, place):
            return False
        news = cluster is not None and self._report is not None and awaited(cluster, self._publisher.told, self._report)
        gathering = cluster is not None and cluster.config == decided.config and gathers(cluster, decided)
        tip = own.based_on if own is not None else None
        wait = self._turns.wait(tip, rank=0 if news else place, members=len(members), gathering=gathering)
        self._turn_in = wait if wait > 0 else None
        return wait <= 0

    def _mere_words(self, cluster: ClusterState, decided: ClusterState, place: int) -> bool:
        """A decision that only says what is waited for is worth a push once the wait has lasted for a while."""
        if not only_words(cluster, decided):
            self._words_since = None
            return False
        now = self._world.clock.monotonic()
        self._words_since = now if self._words_since is None else self._words_since
        if now - self._words_since < WORDS_SECONDS + stagger(place, len(cluster.members)):
            return True
        self._words_since = None
        return False

    def _tell(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            self._options.say(reason)

    def _may_decide(self, cluster: ClusterState | None) -> bool:
        if self._configuration.held is not None:
            return False
        behind = self._snapshot is not None and self._snapshot.behind
        if cluster is not None and not may_decide(self._site.server, self._options.program, cluster, behind=behind):
            return False
        return not self._publisher.proposing and not self._overtaken

    def _sole(self) -> bool:
        return not self._options.status or sole(self._site.server, self._own)

    # Reporting

    def _make_report(self, desired: Desired, cluster: ClusterState | None, observed: Observed) -> Report:
        elapsed = self._elapsed(cluster, observed)
        intended = self._texts.intended(desired, cluster, observed, self._site, elapsed) if cluster is not None else {}
        troubles = (*self._notices.values(), *self._carrier.conditions(), *self._configuration.conditions())
        previous = self._report or self._reports.get(self._site.server)
        made = make_report(
            desired,
            cluster,
            observed,
            self._site,
            intended,
            previous,
            identity=self._options.identity.own,
            program=self._options.program,
            elapsed=elapsed,
            verified_ms=self._verified_ms,
            troubles=troubles,
            retry=wishes(self._world.journal, cluster),
        )
        if previous is None or made.serving != previous.serving:
            self._verified_ms = None  # told once, with the generation that it belongs to
        return made

    def _publish(self, flush: bool) -> None:
        if self._options.status and self._report is not None:
            cluster = self.cluster
            self._publisher.publish(self._own, self._report, self.desired, self._worth(cluster, self._report), flush=flush)

    def _worth(self, cluster: ClusterState | None, report: Report) -> Worth:
        """What the report is worth to others. More votes of this server may be about to come, or the others' that complete them."""
        server, told = self._site.server, self._publisher.told
        if cluster is None or cluster.members == (server,):
            return Worth(telling=telling(told, report))
        place, count = rank(server, cluster.members, cluster.decided_by.server), len(cluster.members)
        more = any(entry.phase in ("preparing", "starting") and entry.rollout for entry in report.instances)
        rests = GATHER_SECONDS if more else 0.0
        waited_for = awaited(cluster, told, report)
        if waited_for and place == 0:
            # It decides next, and cannot before the others have spoken: its own word goes with the decision.
            rests = GATHER_SECONDS + fast_poll(count)
        elif not waited_for and resolves(cluster, told, report):
            waited_for, rests = True, GATHER_SECONDS + stagger(place, count)
        return Worth(waited_for, rests, riding=True, telling=telling(told, report))

    def _unpublished(self) -> ReconcilerError | None:
        error = self._publisher.error
        if error is None:
            return None
        return Transient(
            f"the cluster state cannot be pushed, so this server may not decide yet: {error}. Give it a key that may write "
            "status/* branches, set `status: {remote: ...}` to a repository that it may write, or `status: off`"
        )

    def _switched(self, outcomes: Sequence[Switched], tried: Mapping[str, NginxConfig], pids: Mapping[str, int]) -> None:
        self._observer.switched(outcomes, tried, pids)
        times = [outcome.verified_ms for outcome in outcomes if outcome.verified_ms is not None]
        if times:
            self._verified_ms = round(max(times), 1)
        for outcome in outcomes:
            if not outcome.loaded:
                self._options.say(f"{outcome.name} refused its configuration: {outcome.state.error}")

    # Small parts

    def _elapsed(self, cluster: ClusterState | None, observed: Observed) -> Elapsed:
        reports = {**self._reports}
        if self._report is not None:
            reports[self._site.server] = self._report
        current = set(facts.current(cluster, reports, observed))
        self._times.keep_marks({facts.signalled(container.id) for container in observed.containers})
        return self._times.update(current)

    def _due(self, cluster: ClusterState, observed: Observed, elapsed: Elapsed) -> float | None:
        """Seconds until a wait may be over: drains, old workers and back-offs are looked at every second while there are any."""
        waiting = any(state.loaded is None for state in observed.nginx.values()) or bool(observed.connections)
        waiting = waiting or facts.routing_workers(observed, elapsed) > 0 or bool(ending(cluster, observed))
        retrying = any(state.held for state in cluster.services.values()) or any(
            i.status == "failed" for i in observed.images.values()
        )
        if under_way(cluster) and not waiting:
            # What others say comes with a poll, whose end asks for a pass; what this server does itself is looked at often.
            return 0.5 if self._at_work(cluster) else 2.0
        if waiting:
            return 0.5
        return 5.0 if retrying or self._configuration.held is not None else None

    def _at_work(self, cluster: ClusterState) -> bool:
        """Whether this server has something to do in what is under way: an instance behind its gate, or a text to be served."""
        report = self._report
        if cluster.members == (self._site.server,) or report is None or report.serving is None:
            return True
        behind = (report.serving.epoch, report.serving.generation) != (cluster.epoch, cluster.generation)
        return behind or any(entry.phase in ("preparing", "starting", "waiting") for entry in report.instances)

    def _warn(self, name: str, words: str) -> None:
        services = self.desired.services if self.desired is not None else {}
        instances = {
            key.instance(slot, replica).name: str(key)
            for key, s in services.items()
            for slot in SLOTS
            for replica in range(1, s.replicas + 1)
        }
        service = instances.get(name, name)
        if words:
            self._warnings[service] = words
            self._options.say(words)
        else:
            self._warnings.pop(service, None)
