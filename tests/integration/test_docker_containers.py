"""The Docker adapter's containers against a real Engine: FAULTS 9, 12, 13, 14, 16, 17, 18."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from reconciler.effects.docker import Docker
from reconciler.effects.docker_events import Event
from reconciler.effects.orphans import end_processes
from reconciler.errors import Stalled, Transient
from reconciler.model.container import Publish
from reconciler.model.desired import Mount, Resources
from tests.integration import docker_rig
from tests.integration.conftest import Scope
from tests.integration.docker_rig import Relay, Rig
from tests.integration.images import Images
from tests.waiting import eventually

pytestmark = pytest.mark.docker


@pytest.fixture
def rig(scope: Scope, docker_client: docker.DockerClient, images: Images) -> Iterator[Rig]:
    made = docker_rig.rig(scope, docker_client, images)
    yield made
    made.docker.close()


def calls_of(rig: Rig, work: Callable[[], object]) -> dict[str, int]:
    before = rig.docker.calls.copy()
    work()
    return dict(rig.docker.calls - before)


def test_a_pass_over_unchanged_containers_is_one_list_call(rig: Rig) -> None:
    """I10: nothing else is asked, nothing is written."""
    rig.up()
    rig.docker.containers()
    writes = rig.docker.writes
    assert calls_of(rig, rig.docker.containers) == {"list": 1}
    assert rig.docker.writes == writes


def test_only_a_changed_container_is_inspected_again(rig: Rig) -> None:
    """FAULTS 17: seen by the list alone, without any event."""
    rig.up()
    other = rig.up(rig.plan(name=rig.instance.other.name, address=rig.address(11), labels=rig.labels(slot="secondary")))
    rig.docker.containers()
    rig.by_hand().pause()
    assert calls_of(rig, rig.docker.containers) == {"list": 1, "inspect": 1}
    assert rig.seen().status == "paused" and rig.seen(other.name).status == "running"


def test_a_restart_between_two_passes_is_noticed_without_an_event(rig: Rig) -> None:
    """FAULTS 17, 18: an application in another's namespace shows nothing of a restart in the list."""
    rig.up(
        rig.plan(
            name=rig.instance.sidecar, image=rig.images.python, command=("sleep", "600"), init=True, labels=rig.labels("sidecar")
        )
    )
    before = rig.up(rig.plan(network=None, address=None, namespace_of=rig.instance.sidecar))
    rig.by_hand().restart(timeout=1)
    after = rig.seen()
    assert after.id == before.id and after.pid not in (0, before.pid)


def test_everything_of_a_container_is_told(rig: Rig) -> None:
    container = rig.up()
    assert container.labels == rig.labels()
    assert (container.status, container.address, container.networks) == ("running", rig.address(10), (rig.network,))
    assert container.pid > 1 and container.exit_code is None and container.drift == ()
    assert rig.docker.pid(container.name) == container.pid
    assert rig.docker.stop(container.id) == 0
    stopped = rig.seen()
    assert (stopped.status, stopped.pid, stopped.exit_code, stopped.address) == ("exited", 0, 0, None)


def test_a_crash_shows_its_code_and_its_restarts(rig: Rig) -> None:
    """FAULTS 9."""
    rig.docker.start(rig.docker.create(rig.plan(env=(("EXIT_AT_START", "7"),), restart="on-failure")))
    eventually(lambda: rig.seen().restarts >= 1, 30)
    rig.docker.stop(rig.seen().id)
    assert rig.seen().exit_code == 7


def test_foreign_containers_are_names_and_nothing_else(rig: Rig, docker_client: docker.DockerClient) -> None:
    """FAULTS 18 and I9: no label, another server's label, and a half-copied label."""
    foreign = [
        rig.scope.run(rig.images.app, "foreign"),
        rig.scope.run(rig.images.app, "elsewhere", labels={"reconciler.server": "another", "reconciler.role": "application"}),
        rig.scope.run(rig.images.app, "half", labels={"reconciler.server": rig.scope.server, "reconciler.role": "nonsense"}),
    ]
    ours, names = rig.docker.containers()
    assert ours == ()
    assert {container.name for container in foreign} <= names
    for container in foreign:
        with pytest.raises(Stalled, match="is not this server's"):
            rig.docker.remove(container.id or "")
        container.reload()
        assert container.status == "running"


def test_a_foreign_container_with_our_name_stalls_and_is_named(rig: Rig) -> None:
    """FAULTS 14, 18."""
    rig.client.containers.create(rig.images.app, name=rig.instance.name, labels=rig.scope.labels)
    with pytest.raises(Stalled, match=f"{rig.instance.name} is taken.*rename or remove it") as caught:
        rig.docker.create(rig.plan())
    assert caught.value.reason == "ForeignContainer"


def test_what_a_killed_create_left_is_adopted(rig: Rig) -> None:
    """FAULTS 14."""
    left = rig.docker.create(rig.plan())
    assert Docker(docker_rig.SOCKET, rig.scope.server).create(rig.plan()) == left


def test_what_an_older_plan_left_half_made_is_replaced(rig: Rig) -> None:
    """FAULTS 14: by label, not by name."""
    left = rig.docker.create(rig.plan())
    made = rig.docker.create(rig.plan(labels=rig.labels(spec="sha256:2")))
    assert made != left
    assert rig.seen().id == made and rig.seen().labels.spec == "sha256:2"


def test_a_running_container_in_the_way_is_not_removed_by_create(rig: Rig) -> None:
    running = rig.up()
    with pytest.raises(Transient, match="runs already from another plan"):
        rig.docker.create(rig.plan(labels=rig.labels(spec="sha256:2")))
    assert rig.seen().id == running.id and rig.seen().running


def test_start_stop_and_remove_may_be_repeated(rig: Rig) -> None:
    """FAULTS 1, 16."""
    container = rig.up()
    rig.docker.start(container.id)
    rig.docker.unpause(container.id)
    assert rig.docker.stop(container.id) == rig.docker.stop(container.id) == 0
    rig.docker.kill(container.id, "SIGTERM")
    rig.docker.remove(container.id)
    rig.docker.remove(container.id)
    assert rig.docker.stop(container.id) is None
    rig.docker.kill(container.id, "SIGTERM")
    with pytest.raises(Transient, match="is gone"):
        rig.docker.start(container.id)


def test_a_running_container_is_not_removed(rig: Rig) -> None:
    """FAULTS 16: never `rm -f`, which is a SIGKILL without a grace."""
    container = rig.up()
    with pytest.raises(Transient, match="is not removed"):
        rig.docker.remove(container.id)
    assert rig.seen().running


def test_a_container_that_ignores_sigterm_is_killed_after_the_grace_with_137(rig: Rig) -> None:
    """FAULTS 16."""
    container = rig.up(rig.plan(env=(("IGNORE_TERM", "1"),)))
    began = time.monotonic()
    assert rig.docker.stop(container.id, grace=1.0) == 137
    assert 0.9 < time.monotonic() - began < 9, "Docker's own grace is ten seconds"
    rig.docker.remove(container.id)


def test_stop_with_another_signal_is_not_undone_by_the_restart_policy(rig: Rig) -> None:
    container = rig.up(rig.plan(restart="always", stop_signal="SIGTERM"))
    assert rig.docker.stop(container.id, "SIGKILL", grace=5) == 137
    assert rig.seen().status == "exited"


def test_a_container_killed_with_its_own_stop_signal_is_not_restarted(rig: Rig) -> None:
    """Docker takes the stop signal for the wish to stop: an application told to drain stays down, whatever its restart policy."""
    container = rig.up(rig.plan(restart="always", stop_signal="SIGTERM"))
    rig.docker.kill(container.id, "SIGTERM")
    eventually(lambda: rig.seen().status == "exited", 30)
    stopped = rig.seen()
    assert (stopped.exit_code, stopped.restarts) == (0, 0)


def test_a_container_killed_with_another_signal_is_restarted(rig: Rig) -> None:
    container = rig.up(rig.plan(restart="always", stop_signal="SIGINT"))
    rig.docker.kill(container.id, "SIGTERM")
    eventually(lambda: rig.seen().running and rig.seen().pid not in (0, container.pid), 30)
    assert rig.seen().restarts == 1


def test_without_a_stop_signal_of_its_own_any_signal_through_docker_ends_the_restart_policy(rig: Rig) -> None:
    """Why a reload's SIGHUP goes to the process itself, and why our nginxes are given a stop signal."""
    container = rig.up(rig.plan(restart="always"))
    rig.docker.kill(container.id, "SIGCONT")
    os.kill(container.pid, signal.SIGKILL)
    eventually(lambda: rig.seen().status == "exited", 30)
    other = rig.up(
        rig.plan(name=rig.instance.other.name, address=rig.address(11), labels=rig.labels(slot="secondary"), restart="always")
    )
    os.kill(other.pid, signal.SIGKILL)
    eventually(lambda: rig.seen(other.name).running and rig.seen(other.name).restarts == 1, 30)
    assert rig.seen().status == "exited"


def test_remove_never_removes_volumes(rig: Rig, docker_client: docker.DockerClient) -> None:
    """I9."""
    volume = f"{rig.scope.name}_data"
    container = rig.up(rig.plan(mounts=(Mount(kind="volume", source=volume, target="/data"),)))
    assert rig.docker.exec(container.name, ("sh", "-c", "echo kept > /data/file"), 5)[0] == 0
    rig.docker.stop(container.id)
    rig.docker.remove(container.id)
    again = rig.up(rig.plan(mounts=(Mount(kind="volume", source=volume, target="/data", read_only=True),)))
    assert rig.docker.exec(again.name, ("cat", "/data/file"), 5) == (0, "kept")
    assert rig.docker.exec(again.name, ("sh", "-c", "echo x > /data/file"), 5)[0] != 0


def test_remove_leaves_even_an_anonymous_volume_that_a_person_made(rig: Rig) -> None:
    """I9."""
    made = rig.client.containers.create(
        rig.images.app, name=rig.instance.name, volumes=["/anonymous"], labels={**rig.labels().to_docker(), **rig.scope.labels}
    )
    volume = rig.client.volumes.get(made.attrs["Mounts"][0]["Name"])
    rig.docker.remove(made.id or "")
    volume.reload()
    volume.remove()


def test_an_image_volume_that_nobody_named_stalls(rig: Rig) -> None:
    with pytest.raises(Stalled, match="/var/lib/postgresql/data: name each under `volumes`") as caught:
        rig.docker.create(rig.plan(image=rig.images.postgres))
    assert caught.value.reason == "UnnamedVolume"
    assert rig.docker.containers()[0] == ()


def test_no_anonymous_volume_is_ever_made(rig: Rig, docker_client: docker.DockerClient) -> None:
    """Neither with a tmpfs in its place nor with a named volume."""
    named = Mount(kind="volume", source=f"{rig.scope.name}_pg", target="/var/lib/postgresql/data/")
    for plan in (rig.plan(image=rig.images.postgres, image_volumes="tmpfs"), rig.plan(image=rig.images.postgres, mounts=(named,))):
        identity = rig.docker.create(plan)
        mounts = docker_client.containers.get(identity).attrs["Mounts"]
        assert [(mount["Type"], mount.get("Name", "")) for mount in mounts] in ([("tmpfs", "")], [("volume", named.source)])
        rig.docker.remove(identity)


def test_a_bind_mount_of_a_missing_path_stalls(rig: Rig) -> None:
    missing = Mount(kind="bind", source="/nowhere/at/all", target="/x", read_only=True)
    with pytest.raises(Stalled, match=r"/nowhere/at/all.*create it first"):
        rig.docker.create(rig.plan(mounts=(missing,)))


def test_everything_in_a_plan_reaches_the_container(rig: Rig, tmp_path: Path, free_port: Callable[[], int]) -> None:
    (tmp_path / "secret").write_text("bound")
    port = free_port()
    plan = rig.plan(
        aliases=("db", rig.instance.name),
        command=("python3", "/app.py"),
        env=(("A", "1 =2"), ("B", "")),
        user="0:0",
        working_dir="/tmp",
        publish=(Publish(host_address="127.0.0.1", host_port=port, container_port=8080),),
        mounts=(
            Mount(kind="bind", source=str(tmp_path / "secret"), target="/run/secrets/s", read_only=True),
            Mount(kind="tmpfs", source="", target="/scratch"),
        ),
        resources=Resources(memory=64 << 20, cpus=0.5, pids=60),
        restart="on-failure",
        stop_signal="SIGINT",
        stop_grace=2.5,
        init=True,
        read_only=True,
        cap_add=("NET_ADMIN",),
    )
    identity = rig.docker.create(plan)
    found = rig.client.api.inspect_container(identity)
    host, config = found["HostConfig"], found["Config"]
    assert config["Cmd"] == ["python3", "/app.py"] and {"A=1 =2", "B="} <= set(config["Env"])
    assert (config["User"], config["WorkingDir"], config["StopSignal"], config["StopTimeout"]) == ("0:0", "/tmp", "SIGINT", 3)
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 60)
    assert (host["Init"], host["ReadonlyRootfs"], host["CapAdd"]) == (True, True, ["NET_ADMIN"])
    assert host["RestartPolicy"]["Name"] == "on-failure" and host["Privileged"] is False
    endpoint = found["NetworkSettings"]["Networks"][rig.network]
    assert endpoint["IPAMConfig"]["IPv4Address"] == rig.address(10) and {"db", rig.instance.name} <= set(endpoint["Aliases"])
    assert {(mount["Destination"], mount["RW"]) for mount in found["Mounts"]} == {("/run/secrets/s", False), ("/scratch", True)}
    assert rig.seen().drift == ()


def test_a_port_of_a_foreign_process_is_named_and_seen(rig: Rig, free_port: Callable[[], int]) -> None:
    """FAULTS 12: on this address only, and the container in the way is not touched."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert port in rig.docker.ports_in_use("127.0.0.1") and port not in rig.docker.ports_in_use("127.0.0.77")
        identity = rig.docker.create(rig.plan(publish=(Publish(host_address="127.0.0.1", host_port=port, container_port=8080),)))
        with pytest.raises(Transient, match="its port or address is taken"):
            rig.docker.start(identity)
    rig.docker.start(identity)
    assert port in rig.docker.ports_in_use("127.0.0.1")
    rig.docker.stop(identity)
    rig.docker.remove(identity)
    assert port not in rig.docker.ports_in_use("127.0.0.1")


def test_a_port_is_free_once_remove_has_returned(rig: Rig, free_port: Callable[[], int]) -> None:
    """FAULTS 13: the next container gets it at once, every time."""
    plan = rig.plan(publish=(Publish(host_address="127.0.0.1", host_port=free_port(), container_port=8080),))
    for _ in range(5):
        container = rig.up(plan)
        rig.docker.stop(container.id, grace=0)
        rig.docker.remove(container.id)


def test_a_wrong_command_stalls_instead_of_being_tried_for_ever(rig: Rig) -> None:
    identity = rig.docker.create(rig.plan(command=("no-such-program",)))
    with pytest.raises(Stalled, match="correct its image or command") as caught:
        rig.docker.start(identity)
    assert caught.value.reason == "StartFailed"


def test_an_application_cannot_join_the_namespace_of_a_foreign_container(rig: Rig) -> None:
    rig.client.containers.run(rig.images.app, name=rig.instance.sidecar, labels=rig.scope.labels, detach=True)
    with pytest.raises(Transient, match="which is not there"):
        rig.docker.create(rig.plan(network=None, address=None, namespace_of=rig.instance.sidecar))


def test_a_command_that_hangs_is_killed_in_its_time(rig: Rig) -> None:
    """FAULTS 10."""
    container = rig.up()
    began = time.monotonic()
    code, output = rig.docker.exec(container.name, ("sh", "-c", "echo started; exec sleep 4711"), 0.5)
    assert code == 124 and "0.5 s" in output and time.monotonic() - began < 30
    eventually(lambda: not any("4711" in row[-1] for row in rig.by_hand().top()["Processes"]))
    with pytest.raises(Transient, match="no command can be run"):
        rig.docker.exec("no_such_container", ("true",), 1)


def test_output_comes_bounded_and_harmless(rig: Rig) -> None:
    """FAULTS 60."""
    escapes = r"printf '\033]0;owned\007\033[31mred\033[0m\a\r\n'"
    script = f"for i in $(seq 1 500); do echo line $i; done; {escapes}; head -c 3000 /dev/zero | tr '\\0' x"
    container = rig.up(rig.plan(command=("sh", "-c", script)))
    eventually(lambda: rig.seen().status == "exited", 30)
    lines = rig.docker.logs(container.id, tail=5)
    assert lines[:-1] == ("line 498", "line 499", "line 500", "red")
    assert set(lines[-1]) == {"x"} and len(lines[-1]) < 1000
    assert rig.docker.logs("0" * 64) == ()


def test_a_daemon_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Transient, match=f"does not answer at unix://{tmp_path}/none.sock: start it"):
        Docker(f"unix://{tmp_path}/none.sock", "s").containers()


def test_a_daemon_that_hangs_costs_a_pass_only_the_limit_of_a_call(tmp_path: Path) -> None:
    """FAULTS 10: moby's hanging API calls."""
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(f"{tmp_path}/hangs.sock")
        hanging.listen()
        began = time.monotonic()
        with pytest.raises(Transient, match="unix://"):
            Docker(f"unix://{tmp_path}/hangs.sock", "s", call_seconds=1).containers()
        assert time.monotonic() - began < 15, "without a limit given it is twenty seconds"


def test_a_call_that_hangs_later_ends_in_its_time(rig: Rig, tmp_path: Path) -> None:
    """FAULTS 10: the daemon answered before."""
    with Relay(tmp_path / "relay.sock") as relay:
        through = Docker(relay.url, rig.scope.server, call_seconds=5)
        through.containers()
        relay.silent = True
        with pytest.raises(Transient, match="did not list containers within 5 s"):
            through.containers()
        relay.silent = False
        assert through.containers()[0] == ()


@pytest.mark.parametrize("by", ["its id", "its name"])
@pytest.mark.parametrize("words", ["task {}: already exists", "id already in use"])
def test_what_a_docker_that_ended_half_started_is_removed_to_be_made_anew(rig: Rig, tmp_path: Path, words: str, by: str) -> None:
    """FAULTS 8, 14: containerd knows the task, Docker does not, and every start fails in the same way."""
    identity = rig.docker.create(rig.plan())
    with Relay(tmp_path / "relay.sock") as relay:
        through = Docker(relay.url, rig.scope.server)
        relay.refused_starts.append(words.format(identity))
        with pytest.raises(Transient, match="it is made anew"):
            through.start(identity if by == "its id" else rig.plan().name)
        assert rig.docker.containers()[0] == ()
        again = through.create(rig.plan())
        assert again != identity
        through.start(again)
        assert rig.docker.containers()[0][0].running


def test_what_has_run_is_not_made_anew_because_a_start_fails(rig: Rig, tmp_path: Path) -> None:
    container = rig.up()
    rig.docker.stop(container.id)
    with Relay(tmp_path / "relay.sock") as relay:
        relay.refused_starts.append("id already in use")
        with pytest.raises(Transient, match=r"id already in use$"):
            Docker(relay.url, rig.scope.server).start(container.id)
    assert rig.seen().id == container.id


def test_processes_of_a_container_are_ended_without_docker(rig: Rig) -> None:
    container = rig.up()
    other = rig.scope.run(rig.images.app, "other")
    assert end_processes(container.id) >= 1
    eventually(lambda: not rig.seen().running)
    other.reload()
    assert other.status == "running" and end_processes(container.id) == 0


def test_a_lost_event_stream_comes_back_and_everything_is_looked_at_again(rig: Rig, tmp_path: Path) -> None:
    """FAULTS 17: a change that no event told of, and that the list does not show."""
    container = rig.up()
    with Relay(tmp_path / "relay.sock") as relay:
        through = Docker(relay.url, rig.scope.server)
        stream = through.events()
        assert next(stream).kind == "connected"
        assert through.containers()[0][0].drift == ()
        relay.cut()
        rig.client.api.update_container(container.id, mem_limit="77m", memswap_limit="154m")
        assert next(stream).kind == "connected"
        assert through.containers()[0][0].drift == ("memory limit 0 -> 80740352",)


def test_events_name_our_containers_only_and_end_when_closed(rig: Rig) -> None:
    rig.up()
    rig.docker.containers()
    events: list[Event] = []
    listening = threading.Thread(target=lambda: events.extend(_each(rig.docker.events(), events)), daemon=True)
    listening.start()
    eventually(lambda: events and events[0].kind == "connected", 30)
    rig.scope.run(rig.images.app, "foreign", labels=rig.labels(server="another").to_docker()).stop(timeout=0)
    rig.by_hand().update(mem_limit="77m", memswap_limit="154m")
    eventually(lambda: any(event.action == "update" for event in events), 30)
    assert {event.name for event in events if event.kind == "container"} == {rig.instance.name}
    assert rig.seen().drift == ("memory limit 0 -> 80740352",)
    rig.docker.close()
    listening.join(30)
    assert not listening.is_alive()


def _each(stream: Iterator[Event], into: list[Event]) -> Iterator[Event]:
    for event in stream:
        into.append(event)
    yield from ()
