"""What this server's nginxes have refused, by service, for as long as each of them runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reconciler.errors import Stalled
from reconciler.model.observed import Refusal
from reconciler.model.routes import NginxConfig, Peer
from reconciler.model.switched import Switched
from reconciler.plan.refusals import listener_part, upstream_part
from reconciler.render.blame import blame, loaded_peers
from reconciler.render.nginx import Rendered

MOST = 64
"""Refusals remembered of one nginx. Those of parts that nobody wants any more stand for nothing."""


class Refusals:
    """`read` gives the file of an nginx, which holds what is loaded once a refused text was put back."""

    def __init__(self, render: Callable[[NginxConfig], Rendered], read: Callable[[str], str | None]) -> None:
        self._render = render
        self._read = read
        self._known: dict[str, tuple[int, tuple[Refusal, ...]]] = {}

    def of(self, name: str, pid: int) -> tuple[Refusal, ...]:
        """What the nginx of this process has refused."""
        known = self._known.get(name)
        return known[1] if known is not None and known[0] == pid else ()

    def keep(self, names: Mapping[str, object]) -> None:
        """Forget those of nginxes that are gone."""
        self._known = {name: known for name, known in self._known.items() if name in names}

    def learn(self, outcomes: Sequence[Switched], tried: Mapping[str, NginxConfig], pids: Mapping[str, int]) -> None:
        """Take in what became of a switch. `tried`: the configurations by name."""
        for outcome in outcomes:
            name, config = outcome.name, tried.get(outcome.name)
            if config is None:
                continue
            pid = pids.get(name, 0)
            found = before = self.of(name, pid)
            if outcome.loaded:
                found = tuple(refusal for refusal in before if not _is_in(refusal, config))
            elif (refusal := self._blamed(config, outcome)) is not None:
                same = next((r for r in before if _identity(r) == _identity(refusal)), None)
                if same is not None:
                    refusal = refusal.model_copy(update={"tries": same.tries + 1, "kept": same.kept})
                found = (*(r for r in before if r is not same), refusal)
            self._known[name] = (pid, found[-MOST:])

    def _blamed(self, config: NginxConfig, outcome: Switched) -> Refusal | None:
        text = self._render(config).text
        found = blame(config, text, outcome.state.error or "")
        if found is None:
            return None
        if found.kind == "listener":
            part = listener_part(found.port)
            return Refusal(upstream=found.upstream, kind="listener", part=part, error=outcome.state.error or "")
        loaded = self._loaded(outcome)
        if loaded is None:
            return None  # nothing to go back to for this service alone: the whole text is held back
        peers = next(upstream.peers for upstream in config.upstreams if upstream.name == found.upstream)
        return Refusal(
            upstream=found.upstream,
            kind="upstream",
            part=upstream_part(peers),
            error=outcome.state.error or "",
            kept=loaded.get(found.upstream, ()),
        )

    def _loaded(self, outcome: Switched) -> Mapping[str, tuple[Peer, ...]] | None:
        """What is loaded, by upstream: read back from the file, if that is what the generation endpoint speaks of."""
        text = self._read(outcome.name)
        if text is None or f'return 200 "{outcome.state.loaded}";' not in text:
            return None
        try:
            return loaded_peers(outcome.name, text)
        except Stalled:
            return None


def _identity(refusal: Refusal) -> tuple[str, str, str]:
    return refusal.upstream, refusal.kind, refusal.part


def _is_in(refusal: Refusal, config: NginxConfig) -> bool:
    """Whether the very part that was refused is in a configuration."""
    if refusal.kind == "listener":
        return any(listener_part(listener.port) == refusal.part for listener in config.listeners)
    return any(u.name == refusal.upstream and upstream_part(u.peers) == refusal.part for u in config.upstreams)
