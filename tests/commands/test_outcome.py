"""How a run of --once is summed up: the exit code by what has to be done next, and what happened to each service."""

from __future__ import annotations

import pytest

from reconciler.commands.once import Ended, document, page
from reconciler.errors import Invalid, Problem, ReconcilerError, Stalled, Transient
from reconciler.model.cluster import ClusterState
from reconciler.model.report import Condition
from reconciler.render.terminal_services import happened, views
from tests.commands.told import API, LIVE, NEWER, TIP, WEB, cluster

FAILED = Condition(type="ActionFailed", status=False, reason="ForeignContainer", message="nginx is not ours")
WARNED = Condition(type="Warning", status=True, reason="Warning", message="exit 137")


def _settled() -> ClusterState:
    state = cluster()
    return state.model_copy(update={"services": {API: state.services[API]}})


def _ended(
    state: ClusterState | None,
    *,
    invalid: tuple[str, ...] = (),
    conditions: tuple[Condition, ...] = (),
    timed_out: bool = False,
    problem: ReconcilerError | None = None,
) -> Ended:
    services = views(state, {}) if state is not None else ()
    return Ended(state, services, invalid, conditions, TIP, "New", timed_out, problem)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (_ended(_settled()), 0),
        (_ended(_settled(), conditions=(WARNED,)), 0),
        (_ended(cluster()), 3),
        (_ended(_settled(), timed_out=True), 3),
        (_ended(_settled().model_copy(update={"brake": "too many removals"})), 3),
        (_ended(_settled(), invalid=("a:1:1: wrong",)), 1),
        (_ended(cluster(), invalid=("a:1:1: wrong",)), 1),
        (_ended(_settled(), conditions=(FAILED,)), 2),
        (_ended(_settled(), conditions=(FAILED,), invalid=("a:1:1: wrong",)), 2),
        (_ended(None, problem=Transient("Docker does not answer")), 2),
        (_ended(None, problem=Stalled("somebody else's")), 2),
        (_ended(None, problem=Invalid([Problem("a", 1, 1, "wrong")])), 1),
    ],
)
def test_the_exit_code_says_who_has_to_act(ended: Ended, code: int) -> None:
    assert ended.code == code
    assert document(ended)["exit_code"] == code and document(ended)["converged"] == (code == 0)


def test_the_page_names_what_is_refused_and_what_is_invalid() -> None:
    shown = page(_ended(cluster(), invalid=("projects/a/b.yaml:1:1: wrong",)))
    texts = [f"{note.subject}: {note.text}" for note in shown.notes]
    assert any(text.startswith(WEB) and "was refused: one: status 500" in text for text in texts)
    assert any("projects/a/b.yaml:1:1: wrong" in text for text in texts)


def test_what_happened_tells_a_new_version_a_refusal_a_removal_and_nothing_apart() -> None:
    before = cluster()
    api = before.services[API]
    assert api.live is not None and api.rollout is not None
    newer = api.model_copy(
        update={
            "live": api.live.model_copy(update={"spec": NEWER, "revision": TIP}),
            "rollout": api.rollout.model_copy(update={"cause": "image 1 -> 2"}),
        }
    )
    after = before.model_copy(update={"services": {API: newer, "shop/prod/new": api}})
    told = happened(before, after, [f"{API} staging: image 1 -> 2", "shop/prod/new staging: first deploy"])
    assert told[API] == f"now {TIP[:7]}: image 1 -> 2"
    assert told[WEB] == "removed"
    assert told["shop/prod/new"].startswith("now " + LIVE[:7])
    assert happened(before, before, []) == {API: "unchanged", WEB: "unchanged"}


def test_a_refusal_in_this_very_run_is_what_happened() -> None:
    after = cluster()
    web = after.services[WEB].model_copy(update={"rejected": None, "held": None})
    before = after.model_copy(update={"services": {**after.services, WEB: web}})
    assert happened(before, after, [f"{WEB} aborted: status 500"])[WEB] == f"{TIP[:7]} refused"


def test_a_server_that_lost_its_copy_does_not_call_everything_new() -> None:
    assert happened(None, cluster(), []) == {API: "unchanged", WEB: "unchanged"}
