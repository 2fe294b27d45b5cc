"""The simulated Engine behaves as a real one does, through the adapter's interface: what is listed, what is refused, and how."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.errors import Stalled, Transient
from reconciler.model.container import Labels, Publish
from reconciler.model.desired import Mount
from tests.contract.docker_beds import NO_IMAGE, NO_REGISTRY, DockerBed, FakeBed
from tests.contract.docker_real import RealBed


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Iterator[RealBed]:
    given = (request.getfixturevalue(name) for name in ("scope", "docker_client", "images", "free_port"))
    bed = RealBed(*given)
    yield bed
    bed.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.docker)])
def bed(request: pytest.FixtureRequest) -> DockerBed:
    found: DockerBed = FakeBed() if request.param == "fake" else request.getfixturevalue("real")
    return found


def published(port: int, address: str = "127.0.0.1") -> tuple[Publish, ...]:
    return (Publish(host_address=address, host_port=port, container_port=8080),)


# What is listed


def test_nothing_is_there_at_first(bed: DockerBed) -> None:
    assert bed.docker.containers()[0] == ()


def test_a_created_container_is_told_and_does_not_run(bed: DockerBed) -> None:
    identity = bed.docker.create(bed.plan())
    found = bed.seen()
    assert (found.id, found.labels, found.status) == (identity, bed.labels(), "created")
    assert (found.pid, found.exit_code, found.restarts, found.address, found.drift) == (0, None, 0, None, ())
    assert (found.networks, found.namespace_of) == ((bed.network,), None)


def test_a_running_container_is_told(bed: DockerBed) -> None:
    found = bed.up()
    assert (found.status, found.address, found.exit_code, found.drift) == ("running", bed.address(10), None, ())
    assert found.pid > 1
    stored = bed.docker.image(bed.app)
    assert stored is not None
    assert found.image_id == stored.id
    assert bed.reaches(bed.address(10))


def test_a_stopped_container_is_told(bed: DockerBed) -> None:
    identity = bed.up().id
    assert bed.docker.stop(identity) == 0
    found = bed.seen()
    assert (found.status, found.pid, found.exit_code, found.address) == ("exited", 0, 0, None)
    assert (found.networks, found.drift) == ((bed.network,), ())
    assert not bed.reaches(bed.address(10))


def test_containers_come_by_name(bed: DockerBed) -> None:
    for plan in (bed.secondary(), bed.plan(), bed.sidecar(address=bed.address(12))):
        bed.docker.create(plan)
    names = [container.name for container in bed.docker.containers()[0]]
    assert names == sorted([bed.instance.name, bed.instance.other.name, bed.instance.sidecar])


def test_the_order_of_creation_shows(bed: DockerBed) -> None:
    for plan in (bed.secondary(), bed.plan()):
        bed.docker.create(plan)
    assert bed.seen(bed.instance.other.name).created < bed.seen().created


def test_of_foreign_containers_the_names_are_known_and_nothing_else(bed: DockerBed) -> None:
    """I9."""
    bed.foreign(f"{bed.server}_foreign")
    bed.foreign(f"{bed.server}_elsewhere", bed.labels(server="another"))
    ours, names = bed.docker.containers()
    assert ours == ()
    assert {f"{bed.server}_foreign", f"{bed.server}_elsewhere"} <= names
    assert bed.instance.name not in names


def test_another_server_sees_its_own(bed: DockerBed) -> None:
    bed.docker.create(bed.plan())
    ours, names = bed.other("another").containers()
    assert ours == ()
    assert bed.instance.name in names


# Creating


def test_what_a_killed_create_left_is_adopted(bed: DockerBed) -> None:
    """FAULTS 14."""
    left = bed.docker.create(bed.plan())
    assert bed.docker.create(bed.plan()) == left


def test_what_runs_already_from_the_same_plan_is_adopted(bed: DockerBed) -> None:
    running = bed.up()
    assert bed.docker.create(bed.plan()) == running.id
    assert bed.seen().pid == running.pid


def test_what_an_older_plan_left_half_made_is_replaced(bed: DockerBed) -> None:
    left = bed.docker.create(bed.plan())
    made = bed.docker.create(bed.plan(labels=bed.labels(spec="sha256:2")))
    assert made != left
    assert (bed.seen().id, bed.seen().labels.spec) == (made, "sha256:2")


def test_what_has_exited_is_replaced_even_if_it_is_the_same(bed: DockerBed) -> None:
    old = bed.up()
    bed.docker.stop(old.id)
    made = bed.docker.create(bed.plan())
    assert made != old.id
    assert bed.seen().status == "created"


def test_what_runs_from_another_plan_is_in_the_way_and_stays(bed: DockerBed) -> None:
    running = bed.up()
    with pytest.raises(Transient, match="runs already from another plan"):
        bed.docker.create(bed.plan(labels=bed.labels(spec="sha256:2")))
    assert (bed.seen().id, bed.seen().running) == (running.id, True)


def test_what_is_frozen_is_in_the_way_too(bed: DockerBed) -> None:
    bed.up()
    bed.by_hand(bed.instance.name, "pause")
    with pytest.raises(Transient, match="runs already"):
        bed.docker.create(bed.plan())


@pytest.mark.parametrize("theirs", [None, "another"])
def test_a_name_that_a_foreign_container_has_stalls(bed: DockerBed, theirs: str | None) -> None:
    """FAULTS 14, 18."""
    bed.foreign(bed.instance.name, bed.labels(server=theirs) if theirs else None)
    with pytest.raises(Stalled, match=f"{bed.instance.name} is taken") as caught:
        bed.docker.create(bed.plan())
    assert caught.value.reason == "ForeignContainer"


def test_a_name_that_one_of_ours_has_for_something_else_stalls(bed: DockerBed) -> None:
    bed.docker.create(bed.plan(labels=bed.labels("sidecar")))
    with pytest.raises(Stalled, match="is taken"):
        bed.docker.create(bed.plan())


def test_an_image_that_is_not_here_is_waited_for(bed: DockerBed) -> None:
    """FAULTS 11."""
    with pytest.raises(Transient, match="which is not here"):
        bed.docker.create(bed.plan(image=NO_IMAGE))
    assert bed.docker.containers()[0] == ()


def test_an_image_that_is_not_here_leaves_what_has_the_name(bed: DockerBed) -> None:
    old = bed.docker.create(bed.plan())
    with pytest.raises(Transient, match="which is not here"):
        bed.docker.create(bed.plan(image=NO_IMAGE, labels=bed.labels(spec="sha256:2")))
    assert bed.seen().id == old


def test_a_volume_of_the_image_that_nobody_named_stalls(bed: DockerBed) -> None:
    with pytest.raises(Stalled, match="/var/lib/postgresql/data") as caught:
        bed.docker.create(bed.plan(image=bed.data))
    assert caught.value.reason == "UnnamedVolume"
    assert bed.docker.containers()[0] == ()


def test_a_volume_of_the_image_that_is_named_or_may_go_is_no_obstacle(bed: DockerBed) -> None:
    named = Mount(kind="volume", source=f"{bed.server}_data", target="/var/lib/postgresql/data")
    bed.docker.create(bed.plan(image=bed.data, mounts=(named,)))
    bed.docker.create(bed.secondary(image=bed.data, image_volumes="tmpfs"))
    assert bed.volumes() == {f"{bed.server}_data"}


def test_an_application_without_its_sidecar_waits(bed: DockerBed) -> None:
    with pytest.raises(Transient, match="which is not there"):
        bed.docker.create(bed.joined())


def test_an_application_does_not_join_a_foreign_container(bed: DockerBed) -> None:
    bed.foreign(bed.instance.sidecar)
    with pytest.raises(Transient, match="which is not there"):
        bed.docker.create(bed.joined())


def test_an_application_that_was_left_with_another_sidecar_is_replaced(bed: DockerBed) -> None:
    bed.docker.create(bed.sidecar())
    left = bed.docker.create(bed.joined())
    bed.by_hand(bed.instance.sidecar, "remove")
    bed.docker.create(bed.sidecar())
    made = bed.docker.create(bed.joined())
    assert made != left
    assert bed.seen().namespace_of == bed.seen(bed.instance.sidecar).id


# Starting


def test_start_may_be_repeated_and_takes_names_and_ids(bed: DockerBed) -> None:
    bed.docker.create(bed.plan())
    bed.docker.start(bed.instance.name)
    first = bed.seen()
    bed.docker.start(first.id)
    assert (bed.seen().pid, bed.seen().restarts) == (first.pid, 0)


def test_what_is_gone_cannot_be_started(bed: DockerBed) -> None:
    with pytest.raises(Transient, match="gone"):
        bed.docker.start("0" * 64)


def test_what_has_exited_is_started_again(bed: DockerBed) -> None:
    first = bed.up()
    bed.docker.stop(first.id)
    bed.docker.start(first.id)
    again = bed.seen()
    assert (again.id, again.status, again.address, again.exit_code) == (first.id, "running", bed.address(10), None)
    assert again.pid != first.pid


def test_what_is_frozen_cannot_be_started(bed: DockerBed) -> None:
    bed.up()
    bed.by_hand(bed.instance.name, "pause")
    with pytest.raises(Transient):
        bed.docker.start(bed.instance.name)
    assert bed.seen().status == "paused"


def test_a_wrong_command_stalls(bed: DockerBed) -> None:
    identity = bed.docker.create(bed.plan(command=("no-such-program",)))
    with pytest.raises(Stalled, match="no-such-program") as caught:
        bed.docker.start(identity)
    assert caught.value.reason == "StartFailed"
    assert (bed.seen().status, bed.seen().pid, bed.seen().exit_code) == ("created", 0, None)


def test_two_containers_at_one_address_do_not_run_at_once(bed: DockerBed) -> None:
    first = bed.up()
    second = bed.docker.create(bed.secondary(address=bed.address(10)))
    with pytest.raises(Transient, match=r"taken|[Aa]ddress already in use"):
        bed.docker.start(second)
    assert bed.seen(bed.instance.other.name).status == "created"
    bed.docker.stop(first.id)
    bed.docker.start(second)
    assert bed.seen(bed.instance.other.name).address == bed.address(10)
    with pytest.raises(Transient):
        bed.docker.start(first.id)
    assert (bed.seen().status, bed.seen().exit_code) == ("exited", 128)


def test_a_frozen_container_keeps_its_address(bed: DockerBed) -> None:
    bed.up()
    bed.by_hand(bed.instance.name, "pause")
    second = bed.docker.create(bed.secondary(address=bed.address(10)))
    with pytest.raises(Transient):
        bed.docker.start(second)


def test_two_containers_on_one_port_do_not_run_at_once(bed: DockerBed) -> None:
    port = bed.free_port()
    first = bed.up(bed.plan(publish=published(port)))
    second = bed.docker.create(bed.secondary(publish=published(port)))
    with pytest.raises(Transient, match="already allocated"):
        bed.docker.start(second)
    bed.docker.stop(first.id)
    bed.docker.start(second)
    assert bed.seen(bed.instance.other.name).running


def test_one_port_on_two_addresses_is_two_ports(bed: DockerBed) -> None:
    port = bed.free_port()
    bed.up(bed.plan(publish=published(port)))
    bed.up(bed.secondary(publish=published(port, "127.0.0.2")))
    assert port in bed.docker.ports_in_use("127.0.0.1")
    assert port in bed.docker.ports_in_use("127.0.0.2")
    assert port not in bed.docker.ports_in_use("127.0.0.3")
    assert bed.reaches("127.0.0.1", port)
    bed.docker.stop(bed.instance.name)
    assert port not in bed.docker.ports_in_use("127.0.0.1")


def test_a_port_of_a_foreign_process_is_seen_and_waited_for(bed: DockerBed) -> None:
    """FAULTS 12."""
    port = bed.free_port()
    identity = bed.docker.create(bed.plan(publish=published(port)))
    with bed.listening(port):
        assert port in bed.docker.ports_in_use("127.0.0.1")
        with pytest.raises(Transient):
            bed.docker.start(identity)
        assert bed.seen().status == "created"
    bed.docker.start(identity)
    assert bed.seen().running


def test_a_network_that_is_gone_is_missed_at_the_start(bed: DockerBed) -> None:
    found = bed.up()
    bed.docker.stop(found.id)
    bed.docker.remove_network(bed.network)
    with pytest.raises(Transient):
        bed.docker.start(found.id)
    assert (bed.seen().status, bed.seen().exit_code) == ("exited", 128)


# Ending


def test_stop_may_be_repeated_and_what_is_gone_has_no_code(bed: DockerBed) -> None:
    """FAULTS 1, 16."""
    found = bed.up()
    assert bed.docker.stop(found.id) == bed.docker.stop(found.id) == 0
    bed.docker.remove(found.id)
    bed.docker.remove(found.id)
    assert bed.docker.stop(found.id) is None
    bed.docker.kill(found.id, "SIGTERM")
    bed.docker.unpause(found.id)
    assert bed.docker.logs(found.id) == ()


def test_what_never_ran_is_stopped_and_removed(bed: DockerBed) -> None:
    identity = bed.docker.create(bed.plan())
    assert bed.docker.stop(identity) == 0
    assert bed.seen().status == "created"
    bed.docker.kill(identity, None)
    bed.docker.remove(identity)
    assert bed.docker.containers()[0] == ()


def test_what_ignores_its_stop_signal_is_killed_with_137(bed: DockerBed) -> None:
    found = bed.up(bed.plan(env=(("IGNORE_TERM", "1"),)))
    assert bed.docker.stop(found.id, grace=1.0) == 137
    assert bed.seen().exit_code == 137


def test_a_frozen_container_is_stopped(bed: DockerBed) -> None:
    found = bed.up()
    bed.by_hand(bed.instance.name, "pause")
    bed.docker.stop(found.id, grace=1.0)
    assert bed.seen().status == "exited"


def test_a_frozen_container_goes_on_where_it_was(bed: DockerBed) -> None:
    found = bed.up()
    bed.by_hand(bed.instance.name, "pause")
    frozen = bed.seen()
    assert (frozen.status, frozen.running, frozen.pid, frozen.exit_code) == ("paused", False, found.pid, None)
    bed.docker.unpause(found.id)
    bed.docker.unpause(found.id)
    assert (bed.seen().status, bed.seen().pid) == ("running", found.pid)


def test_the_stop_signal_ends_an_application_for_good_whatever_its_policy(bed: DockerBed) -> None:
    found = bed.up(bed.plan(restart="always", stop_signal="SIGTERM"))
    bed.docker.kill(found.id, None)
    bed.wait(lambda: bed.seen().status == "exited", 10, "it has ended")
    assert (bed.seen().exit_code, bed.seen().restarts) == (0, 0)


def test_another_signal_than_its_own_is_no_wish_to_end_it(bed: DockerBed) -> None:
    found = bed.up(bed.plan(restart="always", stop_signal="SIGINT"))
    bed.docker.kill(found.id, "SIGTERM")
    bed.wait(lambda: bed.seen().running and bed.seen().pid not in (0, found.pid), 20, "it runs again")
    assert (bed.seen().id, bed.seen().restarts) == (found.id, 1)


def test_what_runs_is_not_removed(bed: DockerBed) -> None:
    """FAULTS 16."""
    found = bed.up()
    with pytest.raises(Transient, match="is not removed"):
        bed.docker.remove(found.id)
    bed.by_hand(bed.instance.name, "pause")
    with pytest.raises(Transient, match="is not removed"):
        bed.docker.remove(found.id)
    assert bed.seen().status == "paused"


def test_what_is_foreign_is_not_removed(bed: DockerBed) -> None:
    """I9."""
    name = f"{bed.server}_foreign"
    bed.foreign(name)
    with pytest.raises(Stalled, match="is not this server's") as caught:
        bed.docker.remove(name)
    assert caught.value.reason == "ForeignContainer"
    assert name in bed.docker.containers()[1]


def test_volumes_stay(bed: DockerBed) -> None:
    """I9."""
    found = bed.up(bed.plan(mounts=(Mount(kind="volume", source=f"{bed.server}_kept", target="/data"),)))
    bed.docker.stop(found.id)
    bed.docker.remove(found.id)
    assert bed.volumes() == {f"{bed.server}_kept"}


# Restart policies


def test_a_crash_is_restarted_on_failure(bed: DockerBed) -> None:
    """FAULTS 9."""
    found = bed.up(bed.plan(restart="on-failure"))
    bed.crash(bed.instance.name)
    bed.wait(lambda: bed.seen().running and bed.seen().pid not in (0, found.pid), 20, "it runs again")
    again = bed.seen()
    assert (again.id, again.restarts, again.address, again.exit_code) == (found.id, 1, bed.address(10), None)


def test_a_crash_is_final_without_a_policy(bed: DockerBed) -> None:
    bed.up()
    bed.crash(bed.instance.name)
    bed.wait(lambda: bed.seen().status == "exited", 10, "it has ended")
    assert (bed.seen().exit_code, bed.seen().restarts) == (137, 0)


def test_a_clean_exit_is_final_on_failure(bed: DockerBed) -> None:
    bed.docker.start(bed.docker.create(bed.plan(env=(("EXIT_AT_START", "0"),), restart="on-failure")))
    bed.wait(lambda: bed.seen().status == "exited", 10, "it has ended")
    assert (bed.seen().exit_code, bed.seen().restarts) == (0, 0)


def test_a_clean_exit_is_restarted_always(bed: DockerBed) -> None:
    bed.docker.start(bed.docker.create(bed.plan(env=(("EXIT_AT_START", "0"),), restart="always")))
    bed.wait(lambda: bed.seen().restarts >= 2, 20, "it was restarted")


def test_what_crashes_again_and_again_is_restarted_again_and_again(bed: DockerBed) -> None:
    bed.docker.start(bed.docker.create(bed.plan(env=(("EXIT_AT_START", "7"),), restart="on-failure")))
    bed.wait(lambda: bed.seen().restarts >= 3, 20, "it was restarted three times")
    bed.docker.stop(bed.instance.name)
    assert bed.seen().status == "exited"
    bed.wait(lambda: _tried_again(bed), 20, "it is started by hand, and counts from nothing")


def _tried_again(bed: DockerBed) -> bool:
    bed.docker.start(bed.instance.name)
    count = bed.seen().restarts
    bed.docker.stop(bed.instance.name)
    return count == 0


def test_between_two_restarts_it_says_so(bed: DockerBed) -> None:
    bed.docker.start(bed.docker.create(bed.plan(env=(("EXIT_AT_START", "7"),), restart="on-failure")))
    bed.wait(lambda: bed.seen().restarts >= 2 and bed.seen().status == "restarting", 20, "it is between two restarts")
    bed.wait(lambda: _waits(bed), 20, "it waits for its restart, without a process and without a code")


def _waits(bed: DockerBed) -> bool:
    found = bed.seen()
    return (found.status, found.pid, found.exit_code) == ("restarting", 0, None)


def test_docker_kill_by_hand_is_no_crash(bed: DockerBed) -> None:
    bed.up(bed.plan(restart="always"))
    bed.by_hand(bed.instance.name, "kill")
    bed.wait(lambda: bed.seen().status == "exited", 10, "it has ended")
    assert (bed.seen().exit_code, bed.seen().restarts) == (137, 0)


# Pairs


def test_an_application_has_its_sidecars_address(bed: DockerBed) -> None:
    sidecar = bed.up(bed.sidecar())
    found = bed.up(bed.joined())
    assert (found.address, found.networks, found.namespace_of, found.drift) == (bed.address(10), (), sidecar.id, ())
    assert bed.reaches(bed.address(10))
    assert bed.reaches(bed.address(10), 8081)


def test_an_application_does_not_start_before_its_sidecar(bed: DockerBed) -> None:
    bed.docker.create(bed.sidecar())
    identity = bed.docker.create(bed.joined())
    with pytest.raises(Transient):
        bed.docker.start(identity)
    assert (bed.seen().status, bed.seen().namespace_of) == ("created", bed.seen(bed.instance.sidecar).id)
    bed.docker.start(bed.instance.sidecar)
    bed.docker.start(identity)
    assert bed.seen().running


def test_an_application_whose_sidecar_is_gone_does_not_start(bed: DockerBed) -> None:
    bed.docker.create(bed.sidecar())
    identity = bed.docker.create(bed.joined())
    bed.by_hand(bed.instance.sidecar, "remove")
    with pytest.raises(Transient):
        bed.docker.start(identity)
    bed.up(bed.sidecar())
    with pytest.raises(Transient):
        bed.docker.start(identity)  # it is bound to the old one, by id
    bed.docker.remove(identity)


def test_an_application_outlives_its_sidecar_out_of_reach(bed: DockerBed) -> None:
    bed.up(bed.sidecar())
    found = bed.up(bed.joined())
    bed.docker.stop(bed.instance.sidecar)
    left = bed.seen()
    assert (left.status, left.pid, left.address) == ("running", found.pid, None)
    assert not bed.reaches(bed.address(10))


def test_a_sidecar_that_crashes_takes_the_address_with_it(bed: DockerBed) -> None:
    bed.up(bed.sidecar())
    bed.up(bed.joined())
    bed.crash(bed.instance.sidecar)
    bed.wait(lambda: bed.seen(bed.instance.sidecar).status == "exited", 10, "it has ended")
    assert (bed.seen().status, bed.seen().address) == ("running", None)
    assert not bed.reaches(bed.address(10))


def test_a_sidecar_that_is_started_again_has_another_namespace(bed: DockerBed) -> None:
    """FAULTS 18: both run, and nothing reaches the application any more."""
    bed.up(bed.sidecar())
    found = bed.up(bed.joined())
    bed.by_hand(bed.instance.sidecar, "restart")
    bed.wait(lambda: bed.reaches(bed.address(10), 8081), 10, "the sidecar listens")
    assert bed.seen().pid == found.pid
    assert bed.seen().drift == (f"left in an old network namespace: {bed.instance.sidecar} was restarted",)
    assert not bed.reaches(bed.address(10))
    bed.docker.stop(found.id)
    bed.docker.start(found.id)
    bed.wait(lambda: bed.reaches(bed.address(10)), 10, "the application is in the new namespace")
    assert bed.seen().drift == ()


def test_an_application_that_is_restarted_stays_in_the_namespace(bed: DockerBed) -> None:
    bed.up(bed.sidecar())
    found = bed.up(bed.joined(restart="on-failure"))
    bed.crash(bed.instance.name)
    bed.wait(lambda: bed.seen().running and bed.seen().pid not in (0, found.pid), 20, "it runs again")
    assert (bed.seen().address, bed.seen().drift) == (bed.address(10), ())
    bed.wait(lambda: bed.reaches(bed.address(10)), 10, "it listens")


def test_an_application_that_crashes_without_its_sidecar_stays_down(bed: DockerBed) -> None:
    bed.up(bed.sidecar())
    bed.up(bed.joined(restart="on-failure"))
    bed.docker.stop(bed.instance.sidecar)
    bed.crash(bed.instance.name)
    bed.wait(lambda: bed.seen().status == "exited", 20, "it has ended")
    assert bed.seen().exit_code not in (None, 0)


def test_a_sidecar_may_be_removed_before_its_application(bed: DockerBed) -> None:
    old = bed.up(bed.sidecar())
    bed.up(bed.joined())
    bed.docker.stop(old.id)
    bed.docker.remove(old.id)
    assert (bed.seen().status, bed.seen().namespace_of, bed.seen().address) == ("running", old.id, None)


def test_a_frozen_sidecar_leaves_its_application_reachable(bed: DockerBed) -> None:
    """The namespace is the kernel's; what is frozen is the process."""
    bed.up(bed.sidecar())
    bed.up(bed.joined())
    bed.by_hand(bed.instance.sidecar, "pause")
    assert bed.reaches(bed.address(10))
    assert bed.seen().status == "running"


# Networks


def test_a_network_is_made_once(bed: DockerBed) -> None:
    bed.docker.create_network(bed.network, str(bed.subnet))
    assert bed.docker.own_networks() == {bed.network: str(bed.subnet)}
    assert bed.docker.networks()[bed.network] == str(bed.subnet)
    assert "bridge" in bed.docker.networks()
    assert bed.network not in bed.other("another").own_networks()


def test_a_network_with_another_subnet_or_of_somebody_else_stalls(bed: DockerBed) -> None:
    theirs = bed.foreign_network("foreign")
    for adapter, name, subnet in (
        (bed.docker, theirs, bed.docker.networks()[theirs]),
        (bed.docker, bed.network, "10.223.200.0/24"),
        (bed.other("another"), bed.network, str(bed.subnet)),
    ):
        with pytest.raises(Stalled, match="is not the one wanted") as caught:
            adapter.create_network(name, subnet)
        assert caught.value.reason == "ForeignNetwork"


def test_a_subnet_in_use_is_transient(bed: DockerBed) -> None:
    with pytest.raises(Transient, match="overlaps"):
        bed.docker.create_network(f"{bed.server}_b", str(bed.subnet))
    assert f"{bed.server}_b" not in bed.docker.networks()


def test_a_network_with_something_running_stays(bed: DockerBed) -> None:
    found = bed.up()
    with pytest.raises(Transient):
        bed.docker.remove_network(bed.network)
    bed.docker.stop(found.id)
    bed.docker.remove_network(bed.network)
    bed.docker.remove_network(bed.network)
    assert bed.docker.own_networks() == {}
    assert bed.seen().status == "exited"


def test_a_foreign_network_is_not_removed(bed: DockerBed) -> None:
    theirs = bed.foreign_network("foreign")
    with pytest.raises(Stalled, match="never removed"):
        bed.docker.remove_network(theirs)
    with pytest.raises(Stalled, match="never removed"):
        bed.other("another").remove_network(bed.network)
    assert {theirs, bed.network} <= bed.docker.networks().keys()


def second_network(bed: DockerBed) -> tuple[str, str]:
    """Another network, and an address on it."""
    name = bed.foreign_network("second")
    return name, bed.docker.networks()[name].replace(".0/24", ".5")


def edge(bed: DockerBed) -> Labels:
    return Labels(server=bed.server, role="edge")


def test_the_edge_joins_at_an_address_and_leaves(bed: DockerBed) -> None:
    bed.up(bed.plan(labels=edge(bed)))
    name, address = second_network(bed)
    for _ in range(2):
        bed.docker.connect(bed.instance.name, name, address)
    assert (set(bed.seen().networks), bed.seen().drift) == ({bed.network, name}, ())
    assert bed.reaches(address)
    for _ in range(2):
        bed.docker.disconnect(bed.instance.name, name)
    assert bed.seen().networks == (bed.network,)
    assert not bed.reaches(address)


def test_who_joins_at_another_address_moves(bed: DockerBed) -> None:
    bed.up(bed.plan(labels=edge(bed)))
    name, address = second_network(bed)
    bed.docker.connect(bed.instance.name, name, address)
    bed.docker.connect(bed.instance.name, name, address.replace(".5", ".6"))
    assert bed.reaches(address.replace(".5", ".6"))
    assert not bed.reaches(address)


def test_who_was_joined_while_stopped_is_there_when_it_runs(bed: DockerBed) -> None:
    bed.docker.create(bed.plan(labels=edge(bed)))
    name, address = second_network(bed)
    bed.docker.connect(bed.instance.name, name, address)
    bed.docker.start(bed.instance.name)
    bed.wait(lambda: bed.reaches(address), 10, "it listens")
    assert set(bed.seen().networks) == {bed.network, name}


def test_nobody_joins_what_is_not_there(bed: DockerBed) -> None:
    bed.up()
    with pytest.raises(Transient):
        bed.docker.connect(bed.instance.name, f"{bed.server}_none", bed.address(5))
    with pytest.raises(Transient):
        bed.docker.connect(f"{bed.server}_none", bed.network, bed.address(5))
    bed.docker.disconnect(f"{bed.server}_none", bed.network)
    assert bed.seen().networks == (bed.network,)


def test_a_stopped_container_is_promised_any_network_and_misses_it_when_it_starts(bed: DockerBed) -> None:
    bed.docker.create(bed.plan(labels=edge(bed)))
    bed.docker.connect(bed.instance.name, f"{bed.server}_none", bed.address(5))
    with pytest.raises(Transient):
        bed.docker.start(bed.instance.name)
    bed.docker.disconnect(bed.instance.name, f"{bed.server}_none")
    bed.docker.start(bed.instance.name)
    assert bed.seen().networks == (bed.network,)


def test_nobody_joins_at_an_address_that_is_taken(bed: DockerBed) -> None:
    """Docker lists the network all the same, without an endpoint; that is no joining, or nobody would try again."""
    bed.up()
    elsewhere = bed.foreign_network("second")
    bed.up(bed.secondary(network=elsewhere, address=None))
    for _ in range(2):
        with pytest.raises(Transient, match="in use"):
            bed.docker.connect(bed.instance.other.name, bed.network, bed.address(10))
        assert bed.seen(bed.instance.other.name).networks == (elsewhere,)
    assert bed.seen(bed.instance.other.name).address is None
    bed.docker.stop(bed.instance.name)
    bed.docker.connect(bed.instance.other.name, bed.network, bed.address(10))
    assert set(bed.seen(bed.instance.other.name).networks) == {bed.network, elsewhere}
    assert bed.reaches(bed.address(10))


def test_what_could_not_be_joined_is_tried_again_at_the_next_start(bed: DockerBed) -> None:
    bed.up()
    elsewhere = bed.foreign_network("second")
    bed.up(bed.secondary(network=elsewhere, address=None))
    with pytest.raises(Transient):
        bed.docker.connect(bed.instance.other.name, bed.network, bed.address(10))
    bed.docker.disconnect(bed.instance.other.name, bed.network)
    bed.docker.stop(bed.instance.other.name)
    assert set(bed.seen(bed.instance.other.name).networks) == {bed.network, elsewhere}
    with pytest.raises(Transient):
        bed.docker.start(bed.instance.other.name)
    bed.docker.stop(bed.instance.name)
    bed.docker.start(bed.instance.other.name)
    bed.wait(lambda: bed.reaches(bed.address(10)), 10, "it is there")


def test_a_lost_network_whose_address_is_taken_stays_lost_until_it_is_free(bed: DockerBed) -> None:
    found = bed.up()
    bed.by_hand(bed.instance.name, "disconnect", bed.network)
    bed.up(bed.secondary(address=bed.address(10)))
    for _ in range(2):
        with pytest.raises(Transient):
            bed.docker.restore(found.id, bed.plan())
        assert bed.seen().drift == (f"disconnected from {bed.network}",)
    bed.docker.stop(bed.instance.other.name)
    bed.docker.restore(found.id, bed.plan())
    assert (bed.seen().drift, bed.seen().address) == ((), bed.address(10))


def test_who_shares_a_namespace_joins_nothing(bed: DockerBed) -> None:
    bed.up(bed.sidecar())
    bed.up(bed.joined())
    name, address = second_network(bed)
    with pytest.raises(Transient):
        bed.docker.connect(bed.instance.name, name, address)


def test_names_and_aliases_of_what_runs_resolve_on_its_network(bed: DockerBed) -> None:
    bed.up(bed.plan(aliases=("web-alias",)))
    bed.up(bed.secondary())
    asker = bed.instance.other.name
    assert bed.resolves(asker, "web-alias") == bed.resolves(asker, bed.instance.name) == bed.address(10)
    assert bed.resolves(asker, "nobody-here") is None
    bed.by_hand(bed.instance.name, "pause")
    assert bed.resolves(asker, "web-alias") == bed.address(10)
    bed.by_hand(bed.instance.name, "remove")
    assert bed.resolves(asker, "web-alias") is None


def test_names_of_what_has_exited_do_not_resolve(bed: DockerBed) -> None:
    bed.up(bed.plan(aliases=("web-alias",)))
    bed.up(bed.secondary())
    bed.docker.stop(bed.instance.name)
    assert bed.resolves(bed.instance.other.name, "web-alias") is None
    bed.docker.start(bed.instance.name)
    assert bed.resolves(bed.instance.other.name, "web-alias") == bed.address(10)


def test_names_on_another_network_do_not_resolve(bed: DockerBed) -> None:
    bed.up(bed.plan(aliases=("web-alias",)))
    bed.up(bed.secondary(network=bed.foreign_network("second"), address=None))
    assert bed.resolves(bed.instance.other.name, "web-alias") is None
    bed.docker.connect(bed.instance.other.name, bed.network, bed.address(11))
    assert bed.resolves(bed.instance.other.name, "web-alias") == bed.address(10)


# What is changed by hand


def test_a_rename_is_seen_and_undone(bed: DockerBed) -> None:
    found = bed.up()
    bed.by_hand(bed.instance.name, "rename", f"{bed.server}_renamed")
    assert bed.seen(f"{bed.server}_renamed").drift == (f"renamed from {bed.instance.name} to {bed.server}_renamed",)
    bed.docker.restore(found.id, bed.plan())
    assert (bed.seen().id, bed.seen().pid, bed.seen().drift) == (found.id, found.pid, ())


def test_a_disconnect_is_seen_and_undone(bed: DockerBed) -> None:
    found = bed.up(bed.plan(aliases=("web-alias",)))
    bed.by_hand(bed.instance.name, "disconnect", bed.network)
    assert (bed.seen().drift, bed.seen().address) == ((f"disconnected from {bed.network}",), None)
    assert not bed.reaches(bed.address(10))
    bed.docker.restore(found.id, bed.plan(aliases=("web-alias",)))
    assert (bed.seen().drift, bed.seen().address, bed.seen().pid) == ((), bed.address(10), found.pid)
    assert bed.reaches(bed.address(10))


def test_a_network_that_somebody_joined_it_to_is_seen_and_left(bed: DockerBed) -> None:
    found = bed.up()
    name = bed.foreign_network("foreign")
    bed.by_hand(bed.instance.name, "connect", name)
    assert bed.seen().drift == (f"connected to {name}",)
    bed.docker.restore(found.id, bed.plan())
    assert (bed.seen().drift, bed.seen().networks) == ((), (bed.network,))


def test_what_is_gone_cannot_be_restored(bed: DockerBed) -> None:
    with pytest.raises(Transient, match="is gone"):
        bed.docker.restore("0" * 64, bed.plan())


# Images


def test_an_image_is_told_or_not_here(bed: DockerBed) -> None:
    found = bed.docker.image(bed.data)
    assert found is not None
    assert (found.volumes, found.exposed) == (("/var/lib/postgresql/data",), (5432,))
    assert bed.docker.image(NO_IMAGE) is None


def test_a_registry_that_does_not_answer_is_transient(bed: DockerBed) -> None:
    """FAULTS 11."""
    with pytest.raises(Transient, match=f"image {NO_REGISTRY} cannot be fetched"):
        bed.docker.pull(NO_REGISTRY)


def test_only_what_was_built_and_nothing_needs_is_removed(bed: DockerBed) -> None:
    """FAULTS 19."""
    tag = f"reconciler/build:{bed.server}"
    lines = f"FROM {bed.app}\nLABEL test={bed.server}\n"
    bed.docker.build(tag, {"Dockerfile": (0o100644, lines.encode())}, "Dockerfile")
    built = bed.docker.image(tag)
    assert built is not None
    assert bed.docker.remove_unused_images(frozenset({tag})) == ()
    assert bed.docker.remove_unused_images(frozenset({built.id})) == ()
    container = bed.docker.create(bed.plan(image=tag))
    assert bed.docker.remove_unused_images(frozenset()) == ()
    bed.docker.remove(container)
    assert bed.other("another").remove_unused_images(frozenset()) == ()
    assert bed.docker.remove_unused_images(frozenset()) == (built.id,)
    assert bed.docker.image(tag) is None
    assert bed.docker.image(bed.app) is not None


def test_a_build_without_its_dockerfile_stalls(bed: DockerBed) -> None:
    with pytest.raises(Stalled, match="build of") as caught:
        bed.docker.build(f"reconciler/build:{bed.server}", {"other": (0o100644, b"x")}, "Dockerfile")
    assert caught.value.reason == "BuildFailed"
