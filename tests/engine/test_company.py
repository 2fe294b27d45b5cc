"""What several servers push for one rollout, in virtual time: the real engine, a Git host in memory that takes 0.3 s each way.

The bound (DESIGN section 5, counted as one host counts): 2 pushes per server and wave, plus 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.company.members import BUSY, LOADED, POLL_EVERY, USUAL, Company, Speed, counted

SERVICES = ("web", "api", "jobs", "mail")
LATE = Speed(USUAL.polls, USUAL.pushes, late=10.0)
SOON = ((2, 1, USUAL), (3, 2, USUAL), (3, 2, LOADED), (10, 1, BUSY))
MORE = ((2, 2, USUAL), (3, 1, USUAL), (3, 3, USUAL), (3, 1, BUSY), (10, 1, USUAL), (10, 3, USUAL), (10, 1, LOADED), (10, 2, LOADED))
FIFTY = ((50, 1, USUAL), (50, 1, LOADED))


def all_at(version: str, services: tuple[str, ...] = ("web",)) -> dict[str, str]:
    return dict.fromkeys(services, version)


def deployed(
    count: int,
    seed: int = 1,
    services: tuple[str, ...] = ("web",),
    quiet: float = 120.0,
    speed: Speed = USUAL,
    slow: Mapping[str, Speed] | None = None,
) -> Company:
    """Servers that serve version 1 and have said everything that they had to say."""
    company = Company(count, seed, speed, slow)
    first = company.commit(all_at("1", services), "First")
    company.start()
    company.run(lambda: company.done(first), 600, "the first deploy")
    company.rest(quiet)
    return company


def updated(company: Company, services: tuple[str, ...] = ("web",), version: str = "2", trailing: float = 300.0) -> int:
    """Pushes for an update, those that come after it is done included."""
    before = len(company.host.pushes)
    sha = company.commit(all_at(version, services), f"Bump to {version}")
    company.run(lambda: company.done(sha), 600, "the update")
    company.rest(trailing)
    return len(company.pushes_since(before))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("count", "seed", "speed"), [*SOON, *(pytest.param(*each, marks=pytest.mark.slow) for each in (*MORE, *FIFTY))]
)
def test_a_rollout_costs_two_pushes_for_each_server_and_three(count: int, seed: int, speed: Speed) -> None:
    """However slow the servers are. Pushes that were rejected count, as they cost the Git host as much."""
    company = deployed(count, seed, speed=speed)
    before = len(company.host.pushes)
    assert updated(company, trailing=300.0 if count < 50 else 90.0) <= 2 * count + 3, company.story(before)
    for each in company.members.values():
        live = {c.name for c in each.docker.containers()[0] if c.labels.role == "application"}
        assert live == {"shop_prod_web_secondary"}, f"{each.name} has {live}"


@pytest.mark.parametrize(("count", "seed"), [(3, 1), (3, 2), (10, 1), pytest.param(10, 2, marks=pytest.mark.slow)])
def test_a_cluster_from_nothing_costs_three_pushes_for_each_server_and_three(count: int, seed: int) -> None:
    """One more for each: a server reports before it is a member. And nobody waits for the next poll of an idle server."""
    company = Company(count, seed)
    first = company.commit(all_at("1"), "First")
    company.start()
    assert company.run(lambda: company.done(first), 300, "the first deploy") < 30.0, company.story()
    company.rest(300)
    assert len(company.host.pushes) <= 3 * count + 3, company.story()


@pytest.mark.parametrize("seed", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_few_servers_that_are_far_behind_the_others_cost_no_more(seed: int) -> None:
    """The first in turn among them: the others measure their own pace, which tells nothing of it."""
    company = deployed(10, seed, slow={"s01": LATE, "s02": LATE, "s07": LATE})
    before = len(company.host.pushes)
    assert updated(company) <= 2 * 10 + 3, company.story(before)


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_wave_of_several_services_costs_no_more_than_one(count: int) -> None:
    company = deployed(count, 4, SERVICES)
    before = len(company.host.pushes)
    assert updated(company, SERVICES) <= 2 * count + 3, company.story(before)


def test_nobody_says_a_thing_twice_and_a_decision_is_told_once_it_has_landed() -> None:
    company = deployed(3)
    before = {name: len(each.said) for name, each in company.members.items()}
    updated(company)
    told = [line for name, each in company.members.items() for line in each.said[before[name] :]]
    assert len(told) == len(set(told)), told


@pytest.mark.parametrize(("speed", "most"), [(USUAL, 45.0), (LOADED, 120.0)])
def test_another_one_decides_when_the_last_decider_is_silent_at_once(speed: Speed, most: float) -> None:
    """A turn passes, and the next one goes ahead: no controller is waited for."""
    company = deployed(3, speed=speed)
    cluster = company.cluster()
    assert cluster is not None
    company.stop(cluster.decided_by.server)
    company.commit(all_at("2"), "Bump to 2")
    took = company.run(lambda: (found := company.cluster()) is not None and found.config != cluster.config, 300, "a decision")
    assert took < most


def test_who_waits_for_its_turn_has_not_come_to_rest() -> None:
    """A single run must not end there: the commit would be left to somebody else."""
    company = deployed(2)
    cluster = company.cluster()
    assert cluster is not None
    company.stop(cluster.decided_by.server)
    (other,) = (name for name in company.names if name != cluster.decided_by.server)
    assert not company.members[other].cycle.deciding
    company.commit(all_at("2"), "Bump to 2")
    company.run(lambda: company.members[other].cycle.deciding, 60, "something to decide")
    company.run(lambda: (found := company.cluster()) is not None and found.config != cluster.config, 60, "the decision")
    assert not company.members[other].cycle.deciding


def test_a_version_that_fails_on_one_server_is_aborted_within_the_same_bound() -> None:
    company = deployed(3)
    before = len(company.host.pushes)
    company.members["s02"].prober.healthy = False
    company.commit(all_at("2"), "Bump to 2")

    def aborted() -> bool:
        cluster = company.cluster()
        state = cluster.services["shop/prod/web"] if cluster is not None else None
        return state is not None and state.rejected is not None and "s02: no answer" in state.rejected.reason

    company.run(aborted, 120, "the abort")
    company.rest(300)
    assert len(company.pushes_since(before)) <= 2 * 3 + 3, company.story(before)


def test_a_revert_of_what_was_refused_is_known_to_be_in_place_within_seconds_of_the_next_poll() -> None:
    """It changes nothing on any server, and no vote comes that an acknowledgement could ride with."""
    company = deployed(3)
    company.members["s02"].prober.healthy = False
    company.commit(all_at("2"), "Bump to 2")
    company.run(
        lambda: (found := company.cluster()) is not None and found.services["shop/prod/web"].rejected is not None, 120, "no"
    )
    company.rest(120)
    before = len(company.host.pushes)
    back = company.commit(all_at("1"), "Revert")

    def everywhere() -> bool:
        cluster, told = (
            company.cluster(),
            [report.serving for name in company.names if (report := company.report(name)) is not None],
        )
        assert cluster is not None
        now = (cluster.epoch, cluster.generation)
        return cluster.config == back and all(s is not None and (s.epoch, s.generation) == now for s in told)

    assert company.run(everywhere, 300, "the revert") < 2 * POLL_EVERY, company.story(before)
    company.rest(300)
    assert len(company.pushes_since(before)) <= 3 + 3, company.story(before)


def test_a_second_commit_right_after_the_first_goes_through_without_a_word_about_what_drained() -> None:
    company = deployed(3)
    updated(company, trailing=0.0)
    before = len(company.host.pushes)
    updated(company, version="3", trailing=300.0)
    pushes = company.pushes_since(before)
    assert len(pushes) <= 2 * 3 + 3, company.story(before)
    assert counted(pushes)["rejected"] <= 1


def test_an_instance_that_still_has_connections_holds_up_the_next_version_on_its_own_server_alone() -> None:
    company = deployed(2)
    company.members["s01"].nginx.connected = 1
    before = len(company.host.pushes)
    updated(company, trailing=0.0)
    names = {c.name for c in company.members["s01"].docker.containers()[0] if c.labels.role == "application"}
    assert names == {"shop_prod_web", "shop_prod_web_secondary"}, "what has connections was ended"
    third = company.commit(all_at("3"), "Bump to 3")
    company.run(lambda: company.done(third), 300, "the third version")
    company.rest(200)
    for each in company.members.values():
        names = {c.name for c in each.docker.containers()[0] if c.labels.role == "application"}
        assert names == {"shop_prod_web"}, company.story(before)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_day_in_which_nothing_happens_pushes_nothing_reloads_nothing_and_touches_no_container() -> None:
    """I10, 24 hours with a poll every 30 s."""
    company = deployed(3, services=("web", "api"))
    updated(company, ("web", "api"))
    company.rest(600)
    before = [len(company.host.pushes), *((m.docker.writes, m.nginx.reloads) for m in company.members.values())]
    fetches = company.host.fetches
    company.rest(24 * 3600)
    assert [len(company.host.pushes), *((m.docker.writes, m.nginx.reloads) for m in company.members.values())] == before
    assert company.host.fetches - fetches >= 3 * 24 * 120 * 0.95
