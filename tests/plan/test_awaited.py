"""Which reports are pushed at once, because a decision may depend on them, and which ride along."""

from __future__ import annotations

import pytest

from reconciler.model.cluster import Backend, ClusterState, Decider, Phase, Rollout, ServiceState
from reconciler.model.identity import Slot
from reconciler.model.report import InstancePhase, InstanceReport, Report, Seen, Serving
from reconciler.plan.awaited import awaited, only_images, only_words, settles

NEW, OLD = "sha256:new", "sha256:old"


def cluster(phase: Phase, *, reason: str | None = None) -> ClusterState:
    """Two members in the middle of a toggle of one service from primary to secondary, switched at generation 5."""
    switched = phase in ("switching", "draining", "done")
    roles: dict[Slot, tuple[str, str]] = {"primary": ("draining" if switched else "live", OLD)}
    roles["secondary"] = ("live" if switched else "staged", NEW)
    rollout = Rollout(
        id="abc/1", target=NEW, revision="abc", strategy="toggle", phase=phase, cause="test", reason=reason,
        switched_at=5 if switched else None,
    )  # fmt: skip
    backends = tuple(
        Backend.model_validate({"server": server, "slot": slot, "spec": spec, "role": role})
        for server in ("a", "b")
        for slot, (role, spec) in roles.items()
    )
    service = ServiceState(internal_port=5001, container_port=80, rollout=rollout, backends=backends)
    return ClusterState(
        epoch="e", generation=5, decided_by=Decider(server="b", program="1"), members=("a", "b"), config="abc",
        services={"shop/prod/web": service},
    )  # fmt: skip


def told(*phases: tuple[Slot, InstancePhase], serving: int = 4, seen: int = 5, epoch: str = "e", retired: int = 4) -> Report:
    """What `a` says: the phases of its slots."""
    instances = tuple(
        InstanceReport(
            service="shop/prod/web", slot=slot, spec=NEW if slot == "secondary" else OLD, phase=phase,
            rollout="abc/1" if slot == "secondary" else None,
        )
        for slot, phase in phases
    )  # fmt: skip
    return Report(
        server="a", instance="i", program="1", seen=Seen(config="abc", epoch=epoch, generation=seen),
        serving=Serving(epoch=epoch, generation=serving), retired=retired, instances=instances,
    )  # fmt: skip


LIVE: tuple[Slot, InstancePhase] = ("primary", "live")


@pytest.mark.parametrize(
    ("phase", "before", "after", "expected"),
    [
        ("staging", told(LIVE), told(LIVE, ("secondary", "starting")), False),
        ("staging", told(LIVE, ("secondary", "starting")), told(LIVE, ("secondary", "ready")), True),
        ("staging", told(LIVE, ("secondary", "starting")), told(LIVE, ("secondary", "failed")), True),
        ("staging", told(LIVE, seen=4), told(LIVE, seen=5), False),
        ("switching", told(("secondary", "ready")), told(("secondary", "live")), False),
        ("switching", told(("secondary", "live")), told(("secondary", "live"), serving=5), True),
        ("switching", told(("secondary", "live"), serving=5), told(("secondary", "live"), serving=5, retired=5), False),
        ("draining", told(("primary", "draining"), serving=5), told(serving=5), True),
        ("draining", told(serving=5), told(serving=5, retired=5), False),
        ("done", told(("secondary", "live"), serving=5), told(("secondary", "live"), serving=5, retired=5), False),
        ("staging", told(LIVE, epoch="before"), told(LIVE), True),
    ],
)
def test_only_what_a_decision_may_take_from_a_report_is_awaited(
    phase: Phase, before: Report, after: Report, expected: bool
) -> None:
    assert awaited(cluster(phase), before, after) is expected


def test_the_first_report_is_awaited_of_members_and_newcomers() -> None:
    assert awaited(cluster("done"), None, told())
    assert awaited(cluster("done"), None, told().model_copy(update={"server": "c"}))


def test_a_wish_to_try_again_is_awaited() -> None:
    assert awaited(cluster("aborted"), told(), told().model_copy(update={"retry": ("shop/prod/web@abc/1",)}))


def test_a_reason_is_mere_words_and_a_phase_is_not() -> None:
    assert only_words(cluster("switching"), cluster("switching", reason="waiting for a to acknowledge generation 5"))
    assert not only_words(cluster("switching"), cluster("draining"))


def test_a_newcomer_is_waited_for_with_what_it_runs_and_with_nothing_else() -> None:
    alone = cluster("staging").model_copy(update={"members": ("b",)})
    first = told(LIVE).model_copy(update={"seen": None, "serving": None})
    assert awaited(alone, None, first)
    assert not awaited(alone, first, told(LIVE)), "that it has read the decision lets nobody join who could not before"
    assert awaited(alone, first, told(LIVE, ("secondary", "live")))
    assert awaited(alone, told(LIVE, epoch="another"), told(LIVE)), "it may not join with what it said of another epoch"


def test_people_wait_for_the_word_that_a_decision_is_in_place_when_no_vote_follows_it() -> None:
    before, after = told(LIVE, serving=4), told(LIVE, serving=5)
    assert settles(cluster("done"), before, after)
    assert not settles(cluster("done"), after, after.model_copy(update={"retired": 5}))
    assert not settles(cluster("done"), before, told(LIVE, serving=4, seen=5))
    assert not settles(cluster("staging"), before, after), "it goes with the vote"


def test_what_a_tag_is_recorded_as_is_told_apart_from_what_moves_the_traffic() -> None:
    before = cluster("staging")
    state = before.services["shop/prod/web"]
    assert state.rollout is not None
    named = state.rollout.model_copy(update={"image": "web@sha256:1", "reason": "waiting for b"})
    recorded = before.model_copy(update={"services": {"shop/prod/web": state.model_copy(update={"rollout": named})}})
    assert only_images(before, recorded) and not only_words(before, recorded)
    assert not only_images(before, cluster("switching"))
