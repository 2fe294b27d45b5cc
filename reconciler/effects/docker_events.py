"""The stream of Docker's events: a hint that something changed. Every pass lists anyway (FAULTS 17)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from reconciler.effects.docker_api import DockerApi
from reconciler.errors import Transient
from reconciler.model.container import LABEL_ROLE, LABEL_SERVER

_ACTIONS: Final = [
    *("create", "start", "die", "oom", "stop", "kill", "restart", "pause", "unpause", "rename", "update", "destroy"),
    *("connect", "disconnect", "remove"),
]
_RETRY_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Event:
    """`kind` connected: the stream began (again), so that anything may have changed before it; id and name are empty then."""

    kind: Literal["container", "network", "connected"]
    id: str = ""
    name: str = ""
    action: str = ""


class _Closeable(Protocol):
    def close(self) -> None: ...


class Events:
    """The events that concern one server. Ends for good with `close`."""

    def __init__(self, api: DockerApi, concerns: Callable[[str], bool], seen: Callable[[Event | None], None]) -> None:
        """`concerns` tells whether a container id is one of ours; `seen` is called before each event is handed out, and with
        None when the stream breaks."""
        self._api = api
        self._concerns = concerns
        self._seen = seen
        self._closed = threading.Event()
        self._stream: _Closeable | None = None

    def events(self) -> Iterator[Event]:
        """Each event, for as long as it is not closed; connects again by itself, with a `connected` event each time."""
        while not self._closed.is_set():
            with suppress(Transient):
                yield from self._connected()
            self._seen(None)
            self._closed.wait(_RETRY_SECONDS)

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            try:
                stream.close()
            except (OSError, AttributeError):
                return  # it ended by itself meanwhile

    def _connected(self) -> Iterator[Event]:
        with self._api.call("events", "stream its events") as client:
            stream = client.events(filters={"type": ["container", "network"], "event": _ACTIONS}, decode=True)
            self._stream = stream
            try:
                if self._closed.is_set():
                    return
                yield self._noted(Event("connected"))
                for message in stream:
                    event = self._of(message)
                    if event is not None:
                        yield self._noted(event)
            finally:
                self._stream = None

    def _noted(self, event: Event) -> Event:
        self._seen(event)
        return event

    def _of(self, message: Mapping[str, Any]) -> Event | None:
        actor = message.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        action = str(message.get("Action", ""))
        if message.get("Type") == "container":
            if attributes.get(LABEL_SERVER) != self._api.server or LABEL_ROLE not in attributes:
                return None
            return Event("container", str(actor.get("ID", "")), str(attributes.get("name", "")), action)
        container = str(attributes.get("container", ""))
        if container and not self._concerns(container):
            return None
        return Event("network", container, str(attributes.get("name", "")), action)
