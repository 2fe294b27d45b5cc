"""A plan in words: slots before and after, per service."""

from __future__ import annotations

from reconciler.model.cluster import Backend, ClusterState, Decider, Live, Rollout, ServiceState
from reconciler.render.terminal_plan import changes

NAME = "shop/prod/web"
LIVE = Backend(server="one", slot="primary", spec="old", role="live", weight=100)
STAGED = Backend(server="one", slot="secondary", spec="new", role="staged")


def _cluster(*services: ServiceState) -> ClusterState:
    decider = Decider(server="one", program="0")
    named = dict.fromkeys([NAME], services[0]) if services else {}
    return ClusterState(epoch="e", generation=1, decided_by=decider, members=("one",), config="a" * 40, services=named)


def _service(*backends: Backend, strategy: str | None = None, held: str | None = None, live: bool = True) -> ServiceState:
    rollout = None
    if strategy is not None:
        rollout = Rollout.model_validate(
            {"id": "b/1", "target": "new", "revision": "b" * 40, "strategy": strategy, "phase": "staging", "cause": "image 1 -> 2"}
        )
    state = ServiceState(internal_port=1, container_port=1, rollout=rollout, backends=backends, held=held)
    return state.model_copy(update={"live": Live(spec="old", revision="a" * 40)}) if live else state


def test_a_toggle_goes_to_the_other_slot() -> None:
    (view,) = changes(_cluster(_service(LIVE)), _cluster(_service(LIVE, STAGED, strategy="toggle")))
    assert (view.change, view.before, view.after, view.cause) == ("toggle", ("one primary",), ("one secondary",), "image 1 -> 2")


def test_a_recreate_stays_in_its_slot() -> None:
    (view,) = changes(_cluster(_service(LIVE)), _cluster(_service(LIVE, strategy="recreate")))
    assert (view.change, view.before, view.after) == ("recreate", ("one primary",), ("one primary",))


def test_a_first_deploy_comes_from_nothing() -> None:
    (view,) = changes(_cluster(), _cluster(_service(STAGED, strategy="toggle", live=False)))
    assert (view.change, view.before, view.after) == ("deploy", (), ("one secondary",))


def test_a_removal_leaves_nothing() -> None:
    (view,) = changes(_cluster(_service(LIVE)), _cluster(_service(LIVE, strategy="remove")))
    assert (view.change, view.after) == ("remove", ())
    (gone,) = changes(_cluster(_service(LIVE)), _cluster())
    assert (gone.change, gone.after) == ("remove", ())


def test_what_is_held_is_no_change_of_slots() -> None:
    (view,) = changes(_cluster(_service(LIVE)), _cluster(_service(LIVE, held="suspended in the config")))
    assert (view.change, view.before, view.after, view.held) == (
        "held",
        ("one primary",),
        ("one primary",),
        "suspended in the config",
    )


def test_the_same_decision_changes_nothing() -> None:
    (view,) = changes(_cluster(_service(LIVE)), _cluster(_service(LIVE)))
    assert view.change is None
