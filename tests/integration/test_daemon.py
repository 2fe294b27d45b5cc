"""`reconcile run` as a process: what wakes it, what ends it, what it tells systemd, and what holds it up."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.engine.faults import RECORD
from tests.effects.git_remotes import HttpRemote
from tests.integration import images as image_store
from tests.integration.conftest import Scope
from tests.integration.docker_rig import Relay
from tests.integration.engine_rig import Engine
from tests.integration.images import Images
from tests.integration.kill_rig import Patient, clients
from tests.integration.program import ENTRY, Program
from tests.integration.server import Server, one_server  # noqa: F401 - the fixture `server`
from tests.remote import Remote
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow]

RARELY = {"poll_interval": "1h"}
"""So that what is seen in time was not seen by a poll."""


@contextmanager
def daemon(
    server: Server, settings: Mapping[str, Any] = RARELY, env: Mapping[str, str] | None = None, before: tuple[str, ...] = ()
) -> Iterator[Program]:
    """`reconcile run` with a settings file. It has begun when this returns, and is killed at the end if it still runs."""
    _write_settings(server, settings)
    server.settings.local_dir.mkdir(exist_ok=True)
    with Program(server, "run", "--config", str(_settings_file(server)), env=env, entry=(*before, *ENTRY)) as program:
        program.says("reconciling")
        yield program


def test_a_second_one_ends_at_once_and_names_the_first(server: Server) -> None:
    """FAULTS 5."""
    with daemon(server) as first:
        started = _used(server, "--help")[0]
        for arguments in (("run",), ("--once",)):
            used, code, said = _used(server, *arguments)
            assert code > 0 and f"pid {first.pid}" in said
            # Processor time, most of it the start of Python: this machine may be slow, and may have much else to do.
            assert used < 2 * started + 1
        assert first.running


def test_sigterm_ends_it_soon_and_leaves_what_runs_alone(server: Server) -> None:
    patient = Patient(server)
    with daemon(server) as program:
        _live(patient, patient.commit(), program)
        before = server.ids()
        began = time.monotonic()
        assert program.end() == 0
        assert time.monotonic() - began < 8, "an idle one sleeps ten seconds: it did not wake for it"
    assert server.ids() == before and server.get(host="web.example").status == 200


def test_sigterm_in_the_middle_of_a_toggle_ends_it_and_the_next_start_finishes(server: Server) -> None:
    patient, steps = Patient(server), server.directory / "steps"
    with daemon(server, env={RECORD: str(steps)}) as program:
        _live(patient, patient.commit(), program)
        version = patient.commit()
        _recorded(steps, f"create {server.project}_prod_web_secondary", program)
        assert program.end() == 0
    with daemon(server) as program:
        _live(patient, version, program)


def test_a_commit_and_a_changed_secret_are_seen_at_once(server: Server) -> None:
    server.write_secret("token", "first")
    with daemon(server) as program:
        for version in ("1", "2"):
            server.commit({"web": server.app(version, public={"hosts": ["web.example"]}, secrets=["token"])}, version)
            eventually(lambda: server.get(host="web.example").json["version"] == version, 60, lambda: program.said)  # noqa: B023
        eventually(lambda: set(server.ids()) == {"web_secondary", "web_secondary_sidecar", *_nginxes(server)}, 60)
        server.write_secret("token", "second")
        eventually(lambda: set(server.ids()) == {"web", "web_sidecar", *_nginxes(server)}, 60, lambda: program.said)
        assert server.get(host="web.example").json["version"] == "2"


def test_what_is_committed_during_a_poll_is_seen_by_the_one_after_it(server: Server) -> None:
    """The poll has looked, but not ended, when the commit comes; nothing else would ask the remote again for an hour."""
    patient, hold, held = Patient(server), server.directory / "hold", server.directory / "held"
    program_of_git = f"""#!/bin/sh
{shlex.quote(shutil.which("git") or "")} "$@"
code=$?
case " $* " in
*" fetch "*) while [ -e {hold} ]; do touch {held}; sleep 0.02; done ;;
esac
exit $code
"""
    wrapper = server.directory / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(program_of_git)
    wrapper.chmod(0o755)
    with daemon(server, env={"PATH": f"{wrapper.parent}:{os.environ['PATH']}"}) as program:
        _live(patient, patient.commit(), program)
        hold.touch()
        program.signal(signal.SIGHUP)
        eventually(held.exists, 30, "a poll that has looked")
        version = patient.commit()
        _write_settings(server, {**RARELY, "host_listener": "perhaps"})
        program.says("settings not taken over")  # one thread tells of all files, in order: it has told of the commit
        hold.unlink()
        _live(patient, version, program)


def test_a_poll_that_failed_is_tried_again_long_before_the_next_one(
    scope: Scope, images: Images, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Within a minute, whatever `poll_interval` is."""
    with _over_http(scope, images, tmp_path, free_port) as (server, host):
        patient = Patient(server)
        first = patient.commit()
        with daemon(server) as program:
            _live(patient, first, program)
            version = patient.commit()
            host.status = 503
            program.signal(signal.SIGHUP)
            program.says("cannot fetch")
            host.status = None
            _live(patient, version, program)


def test_a_repository_with_a_work_tree_is_watched_too(
    scope: Scope, images: Images, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    remote = Remote.create(tmp_path / "work" / ".git")
    remote.git("config", "core.bare", "false")
    server = Server(scope, images, remote, tmp_path / "server", free_port, given={"repo": str(tmp_path / "work")})
    try:
        patient = Patient(server)
        with daemon(server) as program:
            for _ in range(2):
                _live(patient, patient.commit(), program)
    finally:
        server.close()


def test_what_applications_write_beside_their_secrets_does_not_wake_it(server: Server) -> None:
    """A secret that comes with a directory of its own does."""
    patient = Patient(server)
    data = server.settings.local_dir / server.project / "data" / "busy"
    data.mkdir(parents=True)
    with Notified(server.directory / "notify.sock") as systemd, daemon(server, env=systemd.environment) as program:
        _live(patient, patient.commit(), program)
        eventually(lambda: systemd.silent_for > 3, 60, "nothing to do")
        passes = systemd.count("WATCHDOG=1")
        for number in range(30):
            (data / "file").write_text(str(number))
            threading.Event().wait(0.1)  # longer than changes are collected for
        assert systemd.count("WATCHDOG=1") - passes < 10, "networks of other tests may wake it a few times"
        server.commit({"web": server.app("2", public={"hosts": ["web.example"]}, secrets=["token"])}, "with a secret")
        program.says("token")
        server.write_secret("token", "first")
        eventually(lambda: server.get(host="web.example").json["version"] == "2", 30, lambda: program.said)


def test_while_others_are_waited_for_and_the_remote_is_away_it_does_not_spin(
    scope: Scope, images: Images, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """It would ask each two seconds then; what is due waits for the back-off of the polls that failed, and so do its passes."""
    with _over_http(scope, images, tmp_path, free_port) as (server, host), Notified(tmp_path / "notify.sock") as systemd:
        server.commit({"web": server.app("1")}, "first")
        host.status, host.only = 403, "git-receive-pack"
        with daemon(server, env=systemd.environment) as program:
            program.says("may not decide yet")
            host.status, host.only = 503, ""
            asked = host.requests
            eventually(lambda: host.requests >= asked + 5, 90, "polls that fail")
            passes = systemd.count("WATCHDOG=1")
            threading.Event().wait(6)  # the measurement
            assert systemd.count("WATCHDOG=1") - passes < 30, "a pass each 20 ms would be some 200"
            assert program.end() == 0


def test_a_kernel_that_lets_it_watch_no_file_is_named_and_holds_up_nothing(server: Server) -> None:
    """Its own limit, in a user namespace: other programs of this machine are not to miss their watches."""
    limited = 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"'
    Patient(server).commit()
    with daemon(server, before=("unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh")) as program:
        program.says("cannot watch files: ")
        program.says("fs.inotify.max_user_instances")
        program.says("staging: first deploy")
        assert program.end() == 0


def test_changed_settings_are_taken_over_and_invalid_ones_are_refused_by_name(server: Server) -> None:
    patient = Patient(server)
    with Notified(server.directory / "notify.sock") as systemd, daemon(server, env=systemd.environment) as program:
        _live(patient, patient.commit(), program)
        web = server.ids()["web"]
        _write_settings(server, {**RARELY, "host_listener": "perhaps"})
        program.says("settings not taken over")
        program.says(f"{_settings_file(server)}:")
        program.says("host_listener")
        _write_settings(server, {**RARELY, "host_listener": False})
        program.says("taking them over")
        eventually(lambda: server.settings.host_name not in server.ids(), 60, lambda: program.said)
        assert server.ids()["web"] == web

        def told() -> list[str]:
            return [message for message in systemd.messages if message in ("READY=1", "RELOADING=1")]

        eventually(lambda: len(told()) >= 3, 30, lambda: str(systemd.messages))
        assert told() == ["READY=1", "RELOADING=1", "READY=1"], "else systemd takes it for reloading for ever"
        version = patient.commit()
        eventually(lambda: server.get(host="web.example").json["version"] == version, 60, lambda: program.said)
        assert program.end() == 0


def test_what_is_removed_by_hand_is_back_at_once(server: Server) -> None:
    """FAULTS 18. Without Docker's events it would take up to ten seconds."""
    patient, steps = Patient(server, ("web", "api", "more")), server.directory / "steps"
    with daemon(server, env={RECORD: str(steps)}) as program:
        _live(patient, patient.commit(), program)
        for name in patient.services:
            made = f" create {server.project}_prod_{name}\n"
            before = steps.read_text().count(made)
            server.container(name).remove(force=True)
            eventually(lambda: steps.read_text().count(made) > before, 5, lambda: program.said)  # noqa: B023
            eventually(lambda: server.container(name).status == "running", 60, lambda: program.said)  # noqa: B023
        _live(patient, str(patient.version), program)
        server.edge().remove(force=True)
        eventually(lambda: server.get(host="web.example").status == 200, 60, lambda: program.said)


def test_systemd_hears_of_it_when_it_is_ready_alive_and_ending_and_nothing_from_a_wedged_pass(
    scope: Scope, images: Images, git_remote: Remote, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """FAULTS 3 and 10: a daemon that waits for an answer of Docker feeds no watchdog meanwhile, and goes on when Docker does."""
    with Relay(tmp_path / "relay.sock") as relay, Notified(tmp_path / "notify.sock") as systemd:
        server = Server(scope, images, git_remote, tmp_path, free_port, docker_url=relay.url)
        try:
            patient = Patient(server)
            with daemon(server, env=systemd.environment) as program:
                eventually(lambda: systemd.count("READY=1") == 1, 60, lambda: program.said)
                _live(patient, patient.commit(), program)
                assert systemd.count("READY=1") == 1 and systemd.count("WATCHDOG=1") > 1
                relay.silent = True
                server.container("web").remove(force=True)
                # An idle one sleeps ten seconds; a call of Docker that gets no answer ends after twenty.
                eventually(lambda: relay.unanswered and systemd.silent_for > 11, 60, "a pass to hang")
                fed = systemd.count("WATCHDOG=1")
                relay.silent = False
                eventually(lambda: systemd.count("WATCHDOG=1") > fed, 60, lambda: program.said)
                program.says("did not list")
                _live(patient, str(patient.version), program)
                assert program.end() == 0
                eventually(lambda: systemd.messages[-1] == "STOPPING=1", 10, lambda: str(systemd.messages[-9:]))
                assert systemd.count("STOPPING=1") == 1
                assert systemd.count("READY=1") == 1
        finally:
            server.close()


def test_docker_gone_and_back_is_said_once_and_what_was_live_is_back(
    docker_client: Any, images: Images, git_remote: Remote, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """FAULTS 8 and 15: a daemon restart, and with it a reboot as far as the containers go."""
    engine = Engine()
    try:
        engine.start()
        image_store.copy(docker_client, engine.client, (images.nginx, images.app))
        scope = Scope(engine.client, "test-engine")
        server = Server(scope, images, git_remote, tmp_path, free_port, docker_url=engine.url)
        with daemon(server, before=engine.inside) as program:
            for version in ("1", "2"):
                server.commit({"web": server.app(version)}, version)
                wanted = {"web", "web_sidecar"} if version == "1" else {"web_secondary", "web_secondary_sidecar"}
                eventually(lambda: set(server.ids()) == {*wanted, server.settings.host_name}, 60, lambda: program.said)  # noqa: B023
            for times in (1, 2):
                engine.stop()
                eventually(lambda: program.said.count("Docker does not answer") == times, 60, lambda: program.said)  # noqa: B023
                threading.Event().wait(8)  # the fault goes on: a message in a loop would show
                assert program.said.count("Docker does not answer") == times, program.said
                engine.start()
                eventually(lambda: program.said.count("no longer held up") == times, 90, lambda: program.said)  # noqa: B023
                eventually(
                    lambda: {c.status for c in server.ours().values()} == {"running"} and len(server.ours()) == 3,
                    90,
                    lambda: f"{server.ours()}\n{program.said}",
                )
                assert "web_secondary" in server.ours()
            server.commit({"web": server.app("3")}, "3")
            eventually(lambda: set(server.ids()) == {"web", "web_sidecar", server.settings.host_name}, 60, lambda: program.said)
            assert program.end() == 0
        server.close()
    finally:
        engine.remove()


def test_frozen_for_twenty_seconds_in_the_middle_of_a_toggle_it_goes_on_with_what_is_so_then(server: Server) -> None:
    """FAULTS 2: another commit and a container removed by hand meanwhile; no request is lost."""
    patient, steps = Patient(server), server.directory / "steps"
    with daemon(server, env={RECORD: str(steps)}) as program:
        _live(patient, patient.commit(), program)
        with clients(server):
            patient.commit()
            _recorded(steps, f"start {server.project}_prod_web_secondary", program)
            program.signal(signal.SIGSTOP)
            try:
                version = patient.commit()
                server.container("web_secondary").remove(force=True)
                threading.Event().wait(20)  # the fault itself
            finally:
                program.signal(signal.SIGCONT)
            _live(patient, version, program)


def test_a_git_remote_that_hangs_holds_up_no_healing_and_is_followed_again_when_it_answers(
    scope: Scope, images: Images, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """FAULTS 30."""
    with _over_http(scope, images, tmp_path, free_port) as (server, host):
        patient = Patient(server)
        with daemon(server, {"poll_interval": "1s", "git_timeout": "30s"}) as program:
            _live(patient, patient.commit(), program)
            host.delay = 100.0
            asked = host.requests
            eventually(lambda: host.requests > asked, 30, "a poll that hangs")
            for _ in range(2):  # each in less time than a poll may take
                server.container("web").remove(force=True)
                eventually(lambda: server.container("web").status == "running", 25, lambda: program.said)
                eventually(lambda: server.get(host="web.example").status == 200, 25, lambda: program.said)
            version = patient.commit()
            program.says("within 30 s")
            host.delay = 0.0
            _live(patient, version, program)
            assert program.end() == 0


def test_idle_it_asks_little_and_writes_nothing(scope: Scope, images: Images, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """I10: no pushes, no reloads, no Docker writes, no journal writes; one list per poll at most, one exchange with Git."""
    with _over_http(scope, images, tmp_path, free_port) as (server, host):
        patient, steps = Patient(server, ("web", "api", "more")), server.directory / "steps"
        with daemon(server, {"poll_interval": "2s"}, {RECORD: str(steps)}) as program:
            _live(patient, patient.commit(), program)
            _quiet(steps)
            recorded, asked, branches, ids = steps.read_text(), host.requests, server.remote.branches(), server.ids()
            used, began = _cpu_seconds(program.pid), time.monotonic()
            threading.Event().wait(10)  # the measurement
            requests, used = host.requests - asked, _cpu_seconds(program.pid) - used
            took = time.monotonic() - began
            assert steps.read_text() == recorded
            assert server.remote.branches() == branches and server.ids() == ids
            assert 3 <= requests <= 3 * 6 * took / 10, "four to six polls, each of one exchange"
            assert used < 3, "seconds of processor time"
            status = Path(f"/proc/{program.pid}/status").read_text()
            memory = next(line.split(":")[1].strip() for line in status.splitlines() if line.startswith("VmRSS"))
            print(f"\nidle with 3 services: {requests} Git requests and {used:.2f} s of processor time in 10 s, {memory} resident")


def test_restarts_in_a_loop_change_nothing(server: Server) -> None:
    """FAULTS 3: what a supervisor that starts it again and again, and kills it each time, does to what runs."""
    patient = Patient(server)
    steps = server.directory / "steps"
    with daemon(server, env={RECORD: str(steps)}) as program:
        _live(patient, patient.commit(), program)
        _quiet(steps)
        assert program.end() == 0
    before, branches = server.ids(), server.remote.branches()
    for _ in range(6):
        with daemon(server) as program:
            program.kill()
    with Notified(server.directory / "notify.sock") as systemd, daemon(server, env=systemd.environment) as program:
        eventually(lambda: systemd.count("WATCHDOG=1") > 1, 60, lambda: program.said)
        assert program.end() == 0
    assert server.ids() == before and server.remote.branches() == branches


class Notified:
    """systemd's end of the notification socket. `messages` are single assignments, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.messages: list[str] = []
        self._last = time.monotonic()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def __enter__(self) -> Notified:
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """For the process that is to tell."""
        return {"NOTIFY_SOCKET": str(self._path)}

    @property
    def silent_for(self) -> float:
        """Seconds since the last message."""
        return time.monotonic() - self._last

    def count(self, message: str) -> int:
        return self.messages.count(message)

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                return
            self._last = time.monotonic()
            self.messages += data.decode().splitlines()


@contextmanager
def _over_http(scope: Scope, images: Images, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[Server, HttpRemote]]:
    """A server whose repository is reached over HTTP, so that it can be made to hang, and counted."""
    remote = Remote.create(tmp_path / "remote.git")
    remote.git("config", "http.receivepack", "true")
    host = HttpRemote(tmp_path, "token")
    token = tmp_path / "token"
    token.write_text("token")
    token.chmod(0o600)
    given = {"repo": f"http://127.0.0.1:{host.port}/remote.git", "token_file": token}
    server = Server(scope, images, remote, tmp_path / "server", free_port, given=given)
    try:
        yield server, host
    finally:
        server.close()
        host.close()


def _live(patient: Patient, version: str, program: Program, seconds: float = 120.0) -> None:
    """Waits until that version is live and everything before it is gone."""
    eventually(lambda: patient.is_converged(version), seconds, lambda: f"version {version}; it said:\n{program.said[-4000:]}")


def _recorded(steps: Path, what: str, program: Program) -> None:
    """Waits until the program has recorded that it came to such a step."""
    eventually(lambda: f" {what}\n" in steps.read_text(), 60, lambda: program.said)


def _quiet(steps: Path) -> None:
    """Waits until the program has taken no step for a while: also what nobody waits for has been told."""
    eventually(lambda: time.time() - steps.stat().st_mtime > 3, 60, "the last step to be over")


def _used(server: Server, *arguments: str) -> tuple[float, int, str]:
    """Runs the program to its end. Returns seconds of processor time, its exit code, and what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Program(server, *arguments) as program:
        code = program.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, code, program.said


def _nginxes(server: Server) -> set[str]:
    return {server.settings.edge_name, server.settings.host_name}


def _settings_file(server: Server) -> Path:
    return server.directory / "etc" / "reconciler.yaml"


def _write_settings(server: Server, settings: Mapping[str, Any]) -> None:
    given = {name: str(value) for name, value in server.given.items() if name != "repo"}
    file = _settings_file(server)
    file.parent.mkdir(exist_ok=True, parents=True)
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump({"status": {"max_pushes_per_minute": 60}, **given, **settings}))
    new.replace(file)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
