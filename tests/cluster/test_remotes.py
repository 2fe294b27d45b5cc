"""The same over SSH: host key, deploy key and the compare-and-swap of two servers."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed
from tests.cluster.githost import SshHost

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]


def test_two_servers_toggle_over_ssh(bed: Bed) -> None:
    host = SshHost(bed.git_host.namespace, bed.ground.directory / "ssh")
    try:
        for name in ("a", "b"):
            keys = {"ssh_key": str(host.key), "known_hosts": str(host.known_hosts)}
            bed.server(name).settings |= {"repo": host.url(bed.remote), **keys}
        bed.run("a", "b")
        both = {"servers_count": 2}
        bed.deploy({"web": bed.web("1", **both)}, "First", bed.inventory("a", "b"), "a", "b")
        bed.eventually(lambda: bed.server("a").version() == bed.server("b").version() == "1", 10, "both edges to serve")
        with bed.load("a", "b") as traffic:
            bed.settle(bed.commit({"web": bed.web("2", **both)}, "Bump web to 2"), "a", "b")
            seen = traffic.stop()
        bed.nothing_lost(seen)
        assert bed.server("a").version() == bed.server("b").version() == "2"
        assert bed.git_host.fetches == 0, "somebody came by HTTP"
    finally:
        bed.rest()
        host.close()
