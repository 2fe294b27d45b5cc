"""Which effects an action is made of, in order. The list is data: the tests kill the program before and after each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

from reconciler.model import effect as e
from reconciler.model.action import (
    Action,
    ConnectNetwork,
    EnsureNetwork,
    PrepareImage,
    Reload,
    RemoveInstance,
    RemoveNetwork,
    RestoreContainer,
    SignalInstance,
    StartContainer,
    StartInstance,
    StartNginx,
)
from reconciler.model.effect import Effect
from reconciler.model.routes import NginxConfig
from reconciler.render.nginx import Rendered

Render = Callable[[NginxConfig], Rendered]


def steps(action: Action, render: Render) -> Iterator[Effect]:
    """The effects of `action`. `PrepareImage` has none: it is a background job, not a step of the pass."""
    match action:
        case EnsureNetwork():
            yield e.CreateNetwork(name=action.name, subnet=action.subnet)
        case StartInstance():
            yield from _start_instance(action, render)
        case StartContainer():
            yield e.Unpause(container=action.id) if action.paused else e.Start(container=action.id)
        case SignalInstance():
            yield e.Signal(container=action.id, signal=action.signal)
        case RemoveInstance():
            for identity, name in zip_longest(action.ids, action.names, fillvalue=action.name):
                yield e.Stop(container=identity, name=name, grace=action.grace)
                if identity == action.ids[-1] and action.nginx is not None:
                    # Before its container goes: after that, nothing would tell a later run that the configuration is left over.
                    yield e.ForgetConfig(name=action.nginx)
                yield e.Remove(container=identity)
        case StartNginx():
            yield from _start_nginx(action, render)
        case ConnectNetwork():
            yield e.Connect(container=action.container, network=action.network, address=action.address)
        case RestoreContainer():
            yield e.Restore(container=action.id, plan=action.plan)
        case RemoveNetwork():
            yield e.RemoveNetwork(name=action.name, leaving=action.leaving)
        case Reload():
            yield e.Switch(targets=tuple(_target(config, render) for config in action.configs))
        case PrepareImage():
            return


def _start_instance(action: StartInstance, render: Render) -> Iterator[Effect]:
    for identity in action.replaces:
        yield e.Stop(container=identity, name=action.instance.name, grace=action.grace)
        yield e.Remove(container=identity)
    if action.sidecar is not None and action.sidecar_config is not None:
        yield e.WriteConfig(name=action.sidecar.name, text=render(action.sidecar_config).text)
        yield e.Create(plan=action.sidecar)
        yield e.Start(container=action.sidecar.name)
    yield e.Create(plan=action.application)
    yield e.Start(container=action.application.name)


def _start_nginx(action: StartNginx, render: Render) -> Iterator[Effect]:
    for identity in action.replaces:
        yield e.Stop(container=identity, name=action.container.name, grace=action.container.stop_grace)
        yield e.Remove(container=identity)
    yield e.WriteConfig(name=action.container.name, text=render(action.config).text)
    yield e.Create(plan=action.container)
    for network, address in action.networks:
        yield e.Connect(container=action.container.name, network=network, address=address)
    yield e.Start(container=action.container.name)


def _target(config: NginxConfig, render: Render) -> e.SwitchTarget:
    rendered = render(config)
    return e.SwitchTarget(name=config.name, text=rendered.text, fingerprint=rendered.fingerprint, port=config.generation_port)
