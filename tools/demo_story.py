"""The product's story on the sample: each step is a push, what the status then says, and what the load met meanwhile."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from demo_ground import DemoError, Ground, Reconciler
from demo_status import Status
from demo_table import Step
from load import Load, Plan, Report, Tcp

from reconciler.model.cluster import ServiceState
from reconciler.ports import internal_port

HOST = "shop.localhost"
FIRST_DEADLINE = 180.0
DEADLINE = 90.0
AFTERWARDS = 300  # requests that each step's outcome has to stand before the next step
LOOK_SECONDS = 0.2
LOG_LINES = 25
SERVICES = ("redis", "api", "web")

T = TypeVar("T")
Edit = Callable[[], str]
Progress = Callable[[str], None]


class Story:
    """Plays the steps. `say` gets a line at a time; `note` what is being waited for."""

    def __init__(self, ground: Ground, reconciler: Reconciler, edge_port: int, say: Progress, note: Progress) -> None:
        self._ground = ground
        self._status = Status(ground)
        self._reconciler = reconciler
        self._edge_port = edge_port
        self._say = say
        self._note = note
        self._before = Report()
        self._load: Load | None = None
        self._told: set[str] = set()
        self.steps: list[Step] = []

    def first_deploy(self, commit: str) -> None:
        """Wait for every service of the sample, and for an answer at the edge."""
        begin = time.monotonic()
        self._wait("every service live", FIRST_DEADLINE, lambda: all(_settled(self._status.service(s), commit) for s in SERVICES))
        self._wait("an answer at the edge", DEADLINE, self._answers)
        self._finished("first deploy", commit, "live", None, time.monotonic() - begin, self._switch_ms())

    def load(self, seconds: float) -> None:
        """From now on there are clients: keep-alive POSTs and page views at the edge, raw TCP through the mesh."""
        plan = Plan(
            url=f"http://127.0.0.1:{self._edge_port}",
            host=HOST,
            seconds=seconds,
            posts=4,
            post_path="/version",
            gets=2,
            get_path="/",
            tcp=(
                self._mesh("web", "GET /version HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK"),
                self._mesh("redis", "PING\r\n", "+PONG\r\n", exchanges=20),
            ),
            pause=0.02,
            seen=r"(?:shop, version |^)(\d+)",
        )
        self._load = Load.start(plan)
        self._wait("the first answers", DEADLINE, lambda: self._sent() >= AFTERWARDS)

    def goes_live(self, name: str, edit: Edit) -> str:
        """A push whose commit has to be live on the other slot. Returns the commit."""
        begin, before = time.monotonic(), self._status.slot("web")
        commit = edit()
        self._wait(f"{commit[:7]} live", DEADLINE, lambda: _live(self._status.service("web"), commit))
        took = time.monotonic() - begin
        self._say(f"  live after {took:.1f} s; the old slot drains")
        self._wait(f"{commit[:7]} settled", DEADLINE, lambda: _settled(self._status.service("web"), commit))
        if self._status.slot("web") == before:
            raise DemoError(f"{commit[:7]} is live, but on the same slot as before ({before}); a toggle was expected")
        self._afterwards()
        self._finished(name, commit, "live", before, took, self._switch_ms())
        return commit

    def is_refused(self, name: str, edit: Edit) -> str:
        """A push whose health check fails: the commit has to be refused while the live one serves. Returns the commit."""
        begin, before = time.monotonic(), self._status.slot("web")
        commit = edit()
        self._wait(f"{commit[:7]} refused", DEADLINE, lambda: _refused(self._status.service("web"), commit))
        took = time.monotonic() - begin
        state = self._status.service("web")
        assert state is not None
        assert state.rejected is not None
        self._say(f"  refused: {state.rejected.reason}")
        self._afterwards()
        if self._load is not None and (served := set(self._load.report.seen) - self._versions()):
            raise DemoError(f"refused, and yet answers came from version {', '.join(sorted(served))}")
        self._finished(name, commit, "refused", before, took, None)
        return commit

    def changes_nothing(self, name: str, edit: Edit) -> str:
        """A push that brings back what is live already: followed, and nothing is done. Returns the commit."""
        begin, before = time.monotonic(), self._status.slot("web")
        commit = edit()
        self._wait(f"{commit[:7]} followed", DEADLINE, lambda: self._follows(commit))
        took = time.monotonic() - begin
        self._afterwards()
        self._finished(name, commit, "nothing to do", before, took, None)
        return commit

    def end_load(self) -> Report:
        """No new requests. Returns all there were; the last step's counts are brought up to date."""
        assert self._load is not None
        total = self._load.stop()
        last = self.steps.pop()
        sent = total.sent - sum(step.sent for step in self.steps)
        failed = total.failed - sum(step.failed for step in self.steps)
        versions = {v: n - sum(step.versions.get(v, 0) for step in self.steps) for v, n in total.seen.items()}
        self.steps.append(Step(**{**vars(last), "sent": sent, "failed": failed, "versions": _some(versions)}))
        return total

    def abandon(self) -> None:
        """End the clients, whatever they met."""
        if self._load is not None and self._load.running:
            self._load.stop()

    # --- small parts

    def _mesh(self, service: str, send: str, expect: str, exchanges: int = 1) -> Tcp:
        port = internal_port(self._ground.project, self._ground.env, service)
        return Tcp(port, send, expect, exchanges, name=f"mesh_{service}")

    def _finished(self, name: str, commit: str, outcome: str, before: str | None, seconds: float, switch_ms: float | None) -> None:
        now = self._load.report if self._load is not None else Report()
        then, self._before = self._before, now
        versions = {version: times - then.seen.get(version, 0) for version, times in now.seen.items()}
        step = Step(
            name=name,
            commit=commit[:7],
            outcome=outcome,
            slot_before=before,
            slot_after=self._status.slot("web"),
            switch_ms=switch_ms,
            seconds=round(seconds, 1),
            sent=now.sent - then.sent,
            failed=now.failed - then.failed,
            versions=_some(versions),
        )
        self.steps.append(step)
        counted = f"; {step.sent} requests, {step.failed} failed" if self._load is not None else ""
        self._say(f"  {outcome}{counted}")

    def _switch_ms(self) -> float | None:
        """Of the web's latest switch, once a report tells."""
        state = self._status.service("web")
        rollout = state.rollout if state is not None else None
        if rollout is None or rollout.switched_at is None:
            return None
        generation = rollout.switched_at
        return self._wait("the report of the switch", DEADLINE, lambda: self._status.switch_ms(generation))

    def _versions(self) -> set[str]:
        """Versions that answered in the steps so far."""
        return {version for step in self.steps for version in step.versions}

    def _follows(self, commit: str) -> bool:
        cluster = self._status.cluster()
        return cluster is not None and cluster.config == commit and _quiet(self._status.service("web"))

    def _sent(self) -> int:
        return self._load.report.sent if self._load is not None else 0

    def _afterwards(self) -> None:
        base = self._sent()
        self._wait(f"{AFTERWARDS} more requests", DEADLINE, lambda: self._sent() >= base + AFTERWARDS)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._edge_port, timeout=5)
        try:
            connection.request("GET", "/version", headers={"Host": HOST})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _wait(self, what: str, deadline: float, condition: Callable[[], T]) -> T:
        """Until the condition holds; tells each new decision on the way. Raises DemoError with what the status and the log say."""
        end = time.monotonic() + deadline
        while not (found := condition()):
            self._note(f"waiting for {what}")
            self._tell()
            if self._reconciler.ended is not None:
                raise DemoError(
                    f"the reconciler ended with code {self._reconciler.ended} while waiting for {what}\n{self.evidence()}"
                )
            if self._load is not None and not self._load.running:
                raise DemoError(f"the load generator ended while waiting for {what}")
            if time.monotonic() > end:
                raise DemoError(f"not within {deadline:.0f} s: {what}\n{self.evidence()}")
            time.sleep(LOOK_SECONDS)
        self._tell()
        return found

    def _tell(self) -> None:
        for line in self._status.lines(self._told, cluster_only=True):
            self._say(f"  {line.time} {line.subject}")
        if tip := self._status.tip():
            self._told = {tip}

    def evidence(self) -> str:
        """What the status says, and the end of the reconciler's log."""
        lines = self._ground.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        command = " ".join(self._reconciler.command)
        return "\n".join([f"--- status\n{self._status.words()}", f"--- the end of {self._ground.log} ({command})", *lines])


def _live(state: ServiceState | None, commit: str) -> bool:
    return state is not None and state.live is not None and state.live.revision == commit


def _settled(state: ServiceState | None, commit: str) -> bool:
    return _live(state, commit) and _quiet(state)


def _quiet(state: ServiceState | None) -> bool:
    return state is not None and (state.rollout is None or state.rollout.phase in ("done", "aborted"))


def _refused(state: ServiceState | None, commit: str) -> bool:
    return state is not None and state.rejected is not None and state.rejected.revision == commit and _quiet(state)


def _some(versions: Mapping[str, int]) -> dict[str, int]:
    return {version: times for version, times in sorted(versions.items()) if times}
