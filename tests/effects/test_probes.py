"""The prober against real sockets: what passes a gate, what fails it, and that nobody waits for anybody."""

from __future__ import annotations

import gc
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import pytest

from reconciler.effects.probes import Inside, Prober, Target
from reconciler.errors import Transient
from reconciler.model.desired import Health
from tests.waiting import eventually

Answer = Callable[[socket.socket], None]
QUICK = Health(kind="http", path="/up", interval=0.02, timeout=30, retries=3, successes=2)
"""Looks often. Its timeout counts where nobody answers; a machine that is busy for some seconds fails no probe."""


@contextmanager
def server(answer: Answer) -> Iterator[int]:
    """A TCP server on 127.0.0.1 that gives each connection to `answer`. Yields its port."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the prober hangs up when it has seen enough
                answer(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Connection) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield listening.server_address[1]
        listening.shutdown()


def says(status_line: str, seen: list[bytes] | None = None) -> Answer:
    def answer(connection: socket.socket) -> None:
        request = connection.recv(4096)
        if seen is not None:
            seen.append(request)
        connection.sendall(f"{status_line}\r\nContent-Length: 0\r\nLocation: /elsewhere\r\n\r\n".encode())

    return answer


def hangs(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.recv(4096)  # until the other side gives up


def drips(connection: socket.socket) -> None:
    """Never silent for long, never done."""
    connection.recv(4096)
    pause = threading.Event()
    for letter in "HTTP/1.1 200 " + "O" * 10_000:
        connection.sendall(letter.encode())
        pause.wait(0.02)


def closes(connection: socket.socket) -> None:
    connection.close()


@dataclass(frozen=True)
class State:
    ok: bool
    message: str = ""


@dataclass
class Answers:
    """What stands for Docker here: set by a test, read by the prober."""

    code: int = 0
    output: str = ""
    state: State = State(True)
    error: str | None = None

    def exec(self, identity: str, argv: tuple[str, ...], seconds: float) -> tuple[int, str]:
        if self.error:
            raise Transient(self.error)
        return self.code, self.output

    def health(self, identity: str) -> State:
        return self.state

    def logs(self, identity: str, tail: int) -> tuple[str, ...]:
        return (f"last words of {identity}",)


@dataclass
class Rig:
    prober: Prober
    answers: Answers
    changes: list[None]

    def gate(self, identity: str = "c1") -> str:
        return self.prober.gates()[identity].state

    def ends(self, state: str, identity: str = "c1", seconds: float = 30.0) -> None:
        eventually(lambda: self.gate(identity) != "waiting", seconds, lambda: str(self.prober.gates()))
        assert self.gate(identity) == state, self.prober.gates()[identity]


@pytest.fixture
def rig() -> Iterator[Rig]:
    answers, changes = Answers(), list[None]()
    prober = Prober(Inside(answers.exec, answers.health, answers.logs), lambda: changes.append(None))
    yield Rig(prober, answers, changes)
    prober.close()


def target(port: int, health: Health = QUICK, pid: int | None = None, ended: str | None = None) -> Target:
    return Target(health=health, address="127.0.0.1", port=port, pid=os.getpid() if pid is None else pid, ended=ended)


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found", "399 Odd"])
def test_http_passes_from_200_to_399_without_following(rig: Rig, status: str) -> None:
    seen: list[bytes] = []
    with server(says(f"HTTP/1.1 {status}", seen)) as port:
        rig.prober.watch({"c1": target(port)})
        rig.ends("passed")
    assert {request.split(b"\r\n")[0] for request in seen} == {b"GET /up HTTP/1.1"}
    assert all(b"\r\nHost: localhost\r\n" in request for request in seen)


@pytest.mark.parametrize("line", ["HTTP/1.1 400 Bad", "HTTP/1.1 500 Oops", "HTTP/1.1 103 Early", "SSH-2.0-x", "HTTP/1.1 2000 OK"])
def test_http_fails_on_anything_else_and_says_what_it_got(rig: Rig, line: str) -> None:
    with server(says(line)) as port:
        rig.prober.watch({"c1": target(port)})
        rig.ends("failed")
    gate = rig.prober.gates()["c1"]
    assert gate.failures == 3
    assert gate.error is not None and f"GET /up at 127.0.0.1:{port}" in gate.error
    assert gate.log == ("last words of c1",)


@pytest.mark.parametrize("answer", [hangs, drips])
def test_a_probe_that_hangs_fails_in_its_time_and_holds_up_nobody(rig: Rig, answer: Answer) -> None:
    """FAULTS 10."""
    patient, slow = (QUICK.model_copy(update={"timeout": timeout, "retries": 2}) for timeout in (3600, 0.3))
    with server(answer) as stuck, server(says("HTTP/1.1 200 OK")) as fine:
        targets = {f"stuck{number}": target(stuck, patient) for number in range(30)}
        rig.prober.watch(targets)
        rig.prober.watch({**targets, "c1": target(fine)})
        rig.ends("passed")
        assert rig.gate("stuck0") == "waiting"
        rig.prober.watch({**targets, "c2": target(stuck, slow)})
        rig.ends("failed", "c2")
        assert "no answer within 0.3 s" in (rig.prober.gates()["c2"].error or "")
        assert rig.gate("stuck0") == "waiting"


def test_tcp_passes_when_somebody_listens_and_stays(rig: Rig) -> None:
    with server(hangs) as port:
        rig.prober.watch({"c1": target(port, QUICK.model_copy(update={"kind": "tcp"}))})
        rig.ends("passed")


def test_tcp_fails_when_the_connection_is_closed_at_once(rig: Rig) -> None:
    # "At once" is a tenth of a second, and the thread that closes here may be late by that much now and then.
    never = {"kind": "tcp", "successes": 10**9, "retries": 1}
    with server(closes) as port:
        rig.prober.watch({"c1": target(port, QUICK.model_copy(update=never))})
        rig.ends("failed")
    assert "closed at once" in (rig.prober.gates()["c1"].error or "")


def test_closed_with_a_probe_under_way_it_ends_quietly() -> None:
    reached = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        reached.set()
        connection.recv(4096)

    gc.collect()  # what other tests left
    answers, printed = Answers(), list[str]()
    prober = Prober(Inside(answers.exec, answers.health, answers.logs), lambda: None)
    before, sys.unraisablehook = sys.unraisablehook, lambda what: printed.append(str(what.exc_value))
    try:
        with server(answer) as port:
            prober.watch({"c1": target(port)})
            assert reached.wait(30)
            prober.close()
        del prober
        gc.collect()
    finally:
        sys.unraisablehook = before
    assert printed == []


def test_nobody_listening_fails(rig: Rig, free_port: Callable[[], int]) -> None:
    rig.prober.watch({"c1": target(free_port())})
    rig.ends("failed")
    assert "refused" in (rig.prober.gates()["c1"].error or "")


def test_a_command_decides_by_its_code(rig: Rig) -> None:
    command = Health(kind="command", command=("check", "me"), interval=0.02, timeout=30, retries=2)
    rig.answers.code, rig.answers.output = 2, "not\nyet"
    rig.prober.watch({"c1": target(1, command)})
    rig.ends("failed")
    assert rig.prober.gates()["c1"].error == "command check me ended with code 2: yet"
    rig.answers.code = 0
    rig.prober.watch({"c2": target(1, command)})
    rig.ends("passed", "c2")


def test_a_daemon_that_does_not_answer_is_a_failure_and_not_the_end_of_probing(rig: Rig) -> None:
    command = Health(kind="command", command=("check",), interval=0.02, timeout=30, retries=10**9)
    rig.answers.error = "Docker does not answer"
    rig.prober.watch({"c1": target(1, command)})
    eventually(lambda: rig.prober.gates()["c1"].error == "Docker does not answer")
    rig.answers.error = None
    rig.ends("passed")


def test_dockers_own_state_counts_only_while_it_is_believable(rig: Rig) -> None:
    """FAULTS 8."""
    docker = Health(kind="docker", interval=0.02, timeout=30, retries=2)
    rig.answers.state = State(False, "its checks have stopped")
    rig.prober.watch({"c1": target(1, docker)})
    rig.ends("failed")
    assert rig.prober.gates()["c1"].error == "its checks have stopped"


def test_a_container_that_ended_fails_at_once(rig: Rig) -> None:
    """FAULTS 9: no waiting for the rest of the retries, nor for the interval."""
    patient = QUICK.model_copy(update={"retries": 1000, "interval": 600.0})
    with server(closes) as port:
        rig.prober.watch({"c1": target(port, patient)})
        eventually(lambda: rig.prober.gates()["c1"].failures == 1)
        rig.prober.watch({"c1": target(port, patient, pid=0, ended="exited with code 3")})
        rig.ends("failed")
    assert rig.prober.gates()["c1"].error == "exited with code 3"


def test_an_answer_counts_only_while_the_container_that_was_started_runs(rig: Rig) -> None:
    """FAULTS 9: somebody answers at the address, but not the process that is probed."""
    with server(says("HTTP/1.1 200 OK")) as port:
        rig.prober.watch({"c1": target(port, pid=0)})
        rig.ends("failed")
    assert rig.prober.gates()["c1"].error == "its process does not run"


def test_an_answer_given_while_the_process_ended_does_not_count(rig: Rig) -> None:
    """FAULTS 9: another process may have given it."""
    process = subprocess.Popen(["sleep", "60"])

    def ends_it(*_: object) -> tuple[int, str]:
        process.kill()
        process.wait()
        return 0, "fine"

    prober = Prober(Inside(ends_it, rig.answers.health, rig.answers.logs), lambda: None)
    try:
        command = Health(kind="command", command=("check",), interval=0.02, timeout=30, retries=1, successes=1)
        prober.watch({"c1": target(1, command, pid=process.pid)})
        eventually(lambda: prober.gates()["c1"].state != "waiting")
        assert prober.gates()["c1"].error == "its process ended during the probe"
    finally:
        prober.close()


def test_a_restart_during_the_gate_is_a_failure_and_starts_the_count_anew(rig: Rig) -> None:
    """FAULTS 9: restart-count check."""
    patient = QUICK.model_copy(update={"successes": 10**6, "retries": 2})
    with server(says("HTTP/1.1 200 OK")) as port:
        rig.prober.watch({"c1": target(port, patient)})
        eventually(lambda: rig.prober.gates()["c1"].successes > 3)
        before = rig.prober.gates()["c1"]
        rig.prober.watch({"c1": target(port, patient, pid=os.getppid())})
        after = rig.prober.gates()["c1"]
    assert "started again" in (after.error or "")
    assert (after.healthy_since or 1e9) > (before.healthy_since or 0)


def test_a_gate_that_ended_stays_and_is_not_probed_again(rig: Rig) -> None:
    seen: list[bytes] = []
    with server(says("HTTP/1.1 200 OK", seen)) as port, server(says("HTTP/1.1 200 OK")) as other:
        rig.prober.watch({"c1": target(port)})
        rig.ends("passed")
        eventually(lambda: len(rig.changes) == 1)
        rig.prober.watch({"c1": target(port), "c2": target(other)})
        rig.ends("passed", "c2")
    assert len(seen) == 2
    assert rig.gate() == "passed"


def test_on_change_is_called_once_for_each_gate_that_ends(rig: Rig) -> None:
    with server(says("HTTP/1.1 200 OK")) as good, server(says("HTTP/1.1 500 No")) as bad:
        rig.prober.watch({"c1": target(good), "c2": target(bad)})
        eventually(lambda: len(rig.changes) == 2)
        assert (rig.gate("c1"), rig.gate("c2")) == ("passed", "failed")


def test_what_is_watched_no_more_has_no_gate(rig: Rig) -> None:
    with server(hangs) as port:
        rig.prober.watch({"c1": target(port), "c2": target(port)})
        rig.prober.watch({"c2": target(port)})
        assert set(rig.prober.gates()) == {"c2"}


def test_the_time_before_it_was_watched_counts_when_it_is_known(rig: Rig) -> None:
    with server(says("HTTP/1.1 200 OK")) as port:
        started = time.monotonic() - 60
        known = Target(health=QUICK, address="127.0.0.1", port=port, pid=os.getpid(), started=started)
        rig.prober.watch({"c1": known})
        rig.ends("passed")
    assert 60 <= rig.prober.gates()["c1"].after <= time.monotonic() - started


def test_a_path_cannot_carry_a_second_request(rig: Rig) -> None:
    """FAULTS 51, for the probe."""
    seen: list[bytes] = []
    with server(says("HTTP/1.1 200 OK", seen)) as port:
        rig.prober.watch({"c1": target(port, QUICK.model_copy(update={"path": "/up HTTP/1.1\r\nX: y\r\n\r\nGET /"}))})
        rig.ends("failed")
    assert seen == []


def test_what_has_to_stay_healthy_is_probed_after_its_gate_too(rig: Rig) -> None:
    answer = ["HTTP/1.1 200 OK"]
    with server(lambda connection: says(answer[0])(connection)) as port:
        rig.prober.watch({"c1": replace(target(port), stays=True)})
        rig.ends("passed")
        answer[0] = "HTTP/1.1 500 No"
        eventually(lambda: rig.gate() == "failed")
    assert "500" in (rig.prober.gates()["c1"].error or "")
    eventually(lambda: len(rig.changes) == 2)


def test_a_restart_after_the_gate_is_a_crash_of_what_has_to_stay_healthy(rig: Rig) -> None:
    with server(says("HTTP/1.1 200 OK")) as port:
        rig.prober.watch({"c1": replace(target(port), stays=True)})
        rig.ends("passed")
        rig.prober.watch({"c1": replace(target(port, pid=os.getppid()), stays=True)})
        rig.ends("failed")
    assert rig.prober.gates()["c1"].error == "its process ended and was started again"
