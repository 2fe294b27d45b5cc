"""The story of three servers: each step is a push, what the status then says, and what the load met meanwhile at every edge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from demo_ground import DemoError
from demo_table import Step

from tests.cluster.bed import SLOW_START, Bed
from tests.cluster.traffic import Seen, Traffic

ALL = ("a", "b", "c")
DEADLINE = 120.0
LOAD_SECONDS_MOST = 900.0
AFTERWARDS = 200  # requests that each step's outcome has to stand before the next step
LOOK_SECONDS = 0.3
ENTRANCES = {"edge": "edge of {}", "mesh": "mesh behind the edge of {}"}
FLAG = "/flag/bad"  # version 3 crashes where this file is

T = TypeVar("T")


class ClusterStory:
    """Plays the steps on a bed. `say` gets a line at a time; `note` what is being waited for."""

    def __init__(self, bed: Bed, say: Callable[[str], None], note: Callable[[str], None]) -> None:
        self._bed = bed
        self._say = say
        self._note = note
        self._traffic: Traffic | None = None
        self._before = Seen({})
        self._told: str | None = None
        self.steps: list[Step] = []

    def first_deploy(self) -> None:
        """Start the reconcilers, push the shop, and wait for an answer at every edge."""
        self._bed.run(*ALL)
        begin = time.monotonic()
        commit = self._bed.commit(self._services("1"), "The shop", self._bed.inventory(*ALL))
        self._settled(commit, "1")
        self._finished("first deploy", commit, None, time.monotonic() - begin, self._switch_ms())
        self._bed.server("b").engine.client.containers.run(
            self._bed.images.app, ["touch", FLAG], entrypoint=[], remove=True, volumes={"shop_prod_flag": {"bind": "/flag"}}
        )

    def load(self) -> None:
        """From now on there are clients at every edge, and some whose requests go on through the mesh."""
        self._traffic = self._bed.load(*ALL, mesh="api", seconds=LOAD_SECONDS_MOST)
        self._afterwards()

    def goes_live(self, name: str, version: str, subject: str) -> str:
        """A push whose version has to be live everywhere. Returns the commit."""
        begin, before = time.monotonic(), self._slots()
        commit = self._bed.commit(self._services(version), subject)
        self._settled(commit, version)
        self._finished(name, commit, before, time.monotonic() - begin, self._switch_ms())
        return commit

    def is_refused(self, name: str, version: str, subject: str) -> str:
        """A push that one server cannot run: it has to be switched nowhere. Returns the commit."""
        begin, before = time.monotonic(), self._slots()
        live = {server: self._bed.server(server).ids("shop_prod_web") for server in ALL}
        commit = self._bed.commit(self._services(version, env={"DIE_IF_EXISTS": FLAG}), subject)
        self._wait("the refusal", lambda: self._bed.rollout("web").startswith("aborted: b: "))
        took = time.monotonic() - begin
        self._wait(
            "what was staged to be gone", lambda: {server: self._bed.server(server).ids("shop_prod_web") for server in ALL} == live
        )
        if self._traffic is not None and version in self._traffic.now.versions("a"):
            raise DemoError(f"refused, and yet answers came from version {version}")
        self._afterwards()
        self._finished(name, commit, before, took, None, "refused everywhere")
        return commit

    def reverts(self, name: str, commit: str) -> None:
        """`git revert`, and what was live before has to be."""
        begin, before = time.monotonic(), self._slots()
        generation = self._bed.cluster().generation
        back = self._bed.remote.revert(commit)
        self._wait(f"{back[:7]} to be served by everybody", lambda: self._bed.converged(back, ALL))
        took = time.monotonic() - begin
        self._afterwards()
        same = self._slots() == before
        self._finished(name, back, before, took, None if same else self._switch_ms(generation), "nothing to do" if same else None)

    def survives_a_kill(self, server: str, name: str, version: str, subject: str, look: Callable[[], None]) -> None:
        """A server's reconciler dies while its new version is staged: nothing is switched anywhere before it is back."""
        begin, before = time.monotonic(), self._slots()
        commit = self._bed.commit(self._services(version, **SLOW_START), subject)
        staged = "shop_prod_web" + ("" if before == "secondary" else "_secondary")
        self._wait(f"{server} to stage", lambda: staged in self._bed.server(server).ids())
        self._bed.server(server).kill()
        self._say(f"  {server}'s reconciler is killed; its nginx and containers go on")
        others = [other for other in ALL if other != server]
        self._wait("the others to be ready", lambda: all(self._ready(other) for other in others))
        look()
        if self._slots() != before:
            raise DemoError(f"switched, although {server} had not said that it is ready")
        self._bed.server(server).run()
        self._say(f"  {server}'s reconciler is started again")
        self._settled(commit, version)
        self._finished(name, commit, before, time.monotonic() - begin, self._switch_ms())

    def drains(self, server: str, name: str, subject: str) -> None:
        """A push that drains a server: its instances go, its edge serves from the others."""
        begin, before = time.monotonic(), self._slots()
        services = {**self._services("4", **SLOW_START), "web": self._web("4", servers_count=len(ALL) - 1, **SLOW_START)}
        commit = self._bed.commit(services, subject, self._bed.inventory(*ALL, drained=server))
        self._wait(f"{server} to be empty", lambda: server not in self._bed.live("web") and self._bed.converged(commit, ALL))
        took = time.monotonic() - begin
        self._afterwards()
        self._finished(name, commit, before, took, self._switch_ms())

    def end_load(self) -> Seen:
        """No new requests. Returns all there were; the last step's counts are brought up to date."""
        assert self._traffic is not None
        if not self._traffic.running:
            raise DemoError("the load ended before the story did: this machine is too slow for it")
        total = self._traffic.stop()
        last = self.steps.pop()
        sent = total.sent - sum(step.sent for step in self.steps)
        failed = total.failed - sum(step.failed for step in self.steps)
        self.steps.append(Step(**{**vars(last), "sent": sent, "failed": failed}))
        return total

    def abandon(self) -> None:
        """End the clients, whatever they met."""
        if self._traffic is not None and self._traffic.running:
            self._traffic.stop()

    # --- small parts

    def _services(self, version: str, **given: Any) -> dict[str, Any]:
        api = self._bed.app("1", servers=["a", "b"])
        return {"api": api, "web": self._web(version, **given)}

    def _web(self, version: str, **given: Any) -> dict[str, Any]:
        flag = {"volumes": {"flag": {"target": "/flag", "read_only": True}}}
        return self._bed.web(version, **{"servers_count": len(ALL), **flag, **given})

    def _settled(self, commit: str, version: str) -> None:
        self._wait(f"{commit[:7]} to be served by everybody", lambda: self._bed.converged(commit, ALL))
        self._wait("an answer at every edge", lambda: all(self._bed.server(name).version() == version for name in ALL))
        self._afterwards()

    def _ready(self, server: str) -> bool:
        entries = self._bed.report(server).instances
        return any(entry.phase == "ready" and entry.service.endswith("/web") for entry in entries)

    def _slots(self) -> str:
        """The slot with the traffic; both where the servers differ."""
        return ", ".join(sorted(set(self._bed.live("web").values())))

    def _switch_ms(self, since: int = 0) -> float | None:
        """Until the slowest server's nginx was verified to serve the web's last switch."""
        rollout = self._bed.cluster().services["shop/prod/web"].rollout
        if rollout is None or rollout.switched_at is None or rollout.switched_at <= since:
            return None
        took = [self._verified_ms(server, rollout.switched_at) for server in ALL]
        return max((ms for ms in took if ms is not None), default=None)

    def _verified_ms(self, server: str, generation: int) -> float | None:
        for commit in reversed(self._bed.remote.log(f"status/{server}")):
            serving = self._bed.report(server, commit.sha).serving
            if serving is not None and serving.generation >= generation:
                return serving.verified_ms
        return None

    def _finished(
        self, name: str, commit: str, before: str | None, seconds: float, switch_ms: float | None, outcome: str | None = None
    ) -> None:
        now = self._traffic.now if self._traffic is not None else Seen({})
        then, self._before = self._before, now
        told = outcome or f"live on {', '.join(sorted(self._bed.live('web')))}"
        versions = {version: times - _versions(then).get(version, 0) for version, times in _versions(now).items()}
        self.steps.append(
            Step(
                name=name,
                commit=commit[:7],
                outcome=told,
                slot_before=before,
                slot_after=self._slots(),
                switch_ms=switch_ms,
                seconds=round(seconds, 1),
                sent=now.sent - then.sent,
                failed=now.failed - then.failed,
                versions={version: times for version, times in sorted(versions.items()) if times},
            )
        )
        counted = f"; {now.sent - then.sent} requests, {now.failed - then.failed} failed" if self._traffic is not None else ""
        self._say(f"  {told} after {seconds:.1f} s{counted}")

    def _afterwards(self) -> None:
        if self._traffic is not None:
            base = self._traffic.now.sent
            self._wait(f"{AFTERWARDS} more requests", lambda: self._traffic is None or self._traffic.now.sent >= base + AFTERWARDS)

    def _wait(self, what: str, condition: Callable[[], T]) -> None:
        """Until the condition holds; tells each new decision on the way. Raises DemoError with what the status and the logs say."""
        end = time.monotonic() + DEADLINE
        while not self._holds(condition):
            self._note(f"waiting for {what}")
            self._tell()
            if time.monotonic() > end:
                raise DemoError(f"not within {DEADLINE:.0f} s: {what}\n{self._bed.story()}")
            time.sleep(LOOK_SECONDS)
        self._tell()

    def _holds(self, condition: Callable[[], T]) -> bool:
        try:
            return bool(condition())
        except Exception:  # what is looked at is not there yet
            return False

    def _tell(self) -> None:
        tip = self._bed.remote.tip("status/cluster")
        if tip is None or tip == self._told:
            return
        known = [f"^{self._told}"] if self._told else []
        form = ("--date=format:%H:%M:%S", "--format=%cd %s")
        for line in self._bed.remote.git("log", "--reverse", *form, tip, *known).splitlines():
            self._say(f"  {line}")
        self._told = tip


def _versions(seen: Seen) -> Mapping[str, int]:
    """How often each version answered at an edge."""
    found: dict[str, int] = {}
    for entrance, report in seen.reports.items():
        for version, times in report.seen.items() if entrance.endswith("/edge") else ():
            found[version] = found.get(version, 0) + times
    return found
