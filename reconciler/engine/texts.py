"""The texts that this server's nginxes should have loaded, rendered once for as long as they are intended."""

from __future__ import annotations

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Observed
from reconciler.model.routes import NginxConfig
from reconciler.model.site import Site
from reconciler.plan.nginxes import Intended, configs
from reconciler.render.nginx import Rendered, render


class Texts:
    """Remembers what was rendered: the same configurations are asked for in every pass."""

    def __init__(self) -> None:
        self._rendered: dict[NginxConfig, Rendered] = {}

    def render(self, config: NginxConfig) -> Rendered:
        """The text and its fingerprint. Raises Stalled for a value that must not be written into nginx."""
        found = self._rendered.get(config)
        if found is None:
            found = self._rendered[config] = render(config)
        return found

    def intended(self, desired: Desired, cluster: ClusterState, observed: Observed, site: Site) -> dict[str, Intended]:
        """What each nginx should have loaded, by container name; texts that nobody asks for any more are forgotten."""
        now = configs(desired, cluster, observed, site)
        up = configs(desired, cluster, observed, site, assume_up=True)
        intended = {
            name: Intended(config, self.render(config).fingerprint, self.render(up.get(name, config)).fingerprint)
            for name, config in now.items()
        }
        current = {*now.values(), *up.values()}
        self._rendered = {config: text for config, text in self._rendered.items() if config in current}
        return intended
