"""Background work: one at a time per name, lanes in order, results kept until they are taken."""

from __future__ import annotations

import threading

from reconciler.engine.jobs import ThreadJobs
from tests.waiting import eventually


def test_a_name_is_under_way_until_its_result_is_taken() -> None:
    jobs, go = ThreadJobs(lambda: None), threading.Event()
    assert jobs.submit("poll", lambda: go.wait(60))
    assert not jobs.submit("poll", lambda: None)
    assert jobs.running("poll") and jobs.busy() and jobs.working("po")
    go.set()
    eventually(lambda: not jobs.working("poll"))
    assert jobs.running("poll"), "its result is not in yet"
    assert jobs.take() == [("poll", True)]
    assert not jobs.running("poll") and not jobs.busy() and jobs.submit("poll", lambda: None)


def test_one_lane_goes_in_order_and_holds_up_no_other() -> None:
    jobs, go, order = ThreadJobs(lambda: None), threading.Event(), list[str]()

    def fetch() -> None:
        go.wait(60)
        order.append("fetch")

    jobs.submit("fetch", fetch, lane="git")
    jobs.submit("push", lambda: order.append("push"), lane="git")
    jobs.submit("heal", lambda: order.append("heal"), lane="instance")
    eventually(lambda: order == ["heal"])
    go.set()
    eventually(lambda: order == ["heal", "fetch", "push"])
    eventually(lambda: not jobs.working(""))
    assert [name for name, _ in jobs.take()] == ["heal", "fetch", "push"]


def test_an_error_is_a_result_and_its_lane_goes_on() -> None:
    rung = threading.Semaphore(0)
    jobs = ThreadJobs(rung.release)
    error = ValueError("broken")

    def broken() -> None:
        raise error

    jobs.submit("first", broken, lane="git")
    jobs.submit("second", lambda: "well", lane="git")
    assert rung.acquire(timeout=60) and rung.acquire(timeout=60), "each end wakes the pass"
    assert jobs.take() == [("first", error), ("second", "well")]


def test_a_lane_that_has_ended_begins_anew() -> None:
    jobs = ThreadJobs(lambda: None)
    for number in range(50):
        assert jobs.submit("job", lambda number=number: number, lane="git")  # type: ignore[misc]
        assert eventually(jobs.take) == [("job", number)]
