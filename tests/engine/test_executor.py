"""The steps of actions: what a run that is cut short between two of them leaves for the next one to find."""

from __future__ import annotations

from reconciler.engine.executor import steps
from reconciler.model.action import RemoveInstance, StartInstance
from reconciler.model.container import ContainerPlan, Labels
from reconciler.model.effect import Effect, ForgetConfig, Remove, Stop
from reconciler.model.identity import ServiceKey
from reconciler.render.nginx import render


def removal(*ids: str) -> list[Effect]:
    return list(
        steps(RemoveInstance(name="shop_prod_web", ids=ids, nginx="shop_prod_web_sidecar", grace=1.0, cause="drained"), render)
    )


def test_a_removal_cut_short_anywhere_leaves_a_container_to_find_as_long_as_anything_is_left() -> None:
    """FAULTS 1: what is left of an instance is found by its containers, so the last of them goes last."""
    for ids in (("application", "sidecar"), ("application",)):
        effects = removal(*ids)
        assert isinstance(effects[-1], Remove) and effects[-1].container == ids[-1]
        assert sum(isinstance(effect, ForgetConfig) for effect in effects) == 1


def test_a_configuration_is_forgotten_only_when_its_nginx_has_stopped() -> None:
    kinds = [(effect.kind, getattr(effect, "container", "")) for effect in removal("application", "sidecar")]
    assert kinds == [
        ("stop", "application"),
        ("remove", "application"),
        ("stop", "sidecar"),
        ("forget_config", ""),
        ("remove", "sidecar"),
    ]
    assert isinstance(removal("application")[0], Stop)


def test_what_has_no_nginx_has_no_configuration_to_forget() -> None:
    action = RemoveInstance(name="shop_prod_web", ids=("application",), grace=1.0, cause="drained")
    assert [effect.kind for effect in steps(action, render)] == ["stop", "remove"]


def test_an_application_that_is_put_into_its_sidecar_leaves_that_one_alone() -> None:
    """No configuration is written and nothing else is made."""
    labels = Labels(server="a", role="application")
    plan = ContainerPlan(name="shop_prod_web", image="web", labels=labels, namespace_of="shop_prod_web_sidecar")
    instance = ServiceKey("shop", "prod", "web").instance("primary", 1)
    action = StartInstance(instance=instance, application=plan, replaces=("dead",), cause="test")
    assert [(effect.kind, getattr(effect, "container", "")) for effect in steps(action, render)] == [
        ("stop", "dead"),
        ("remove", "dead"),
        ("create", ""),
        ("start", "shop_prod_web"),
    ]
