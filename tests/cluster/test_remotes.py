"""The same over SSH: host key, deploy key and the compare-and-swap of two servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bed import Bed
from tests.cluster.githost import SshHost

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]


def test_two_servers_toggle_over_ssh_and_talk_to_no_host_with_another_key(bed: Bed, tmp_path: Path) -> None:
    host = SshHost(bed.git_host.namespace, bed.ground.directory / "ssh")
    try:
        for name in ("a", "b"):
            keys = {"ssh_key": str(host.key), "known_hosts": str(host.known_hosts)}
            bed.server(name).settings |= {"repo": host.url(bed.remote), **keys}
        both = {"servers_count": 2}
        first = bed.commit({"web": bed.web("1", **both)}, "First", bed.inventory("a", "b"))
        stranger = tmp_path / "known_hosts"
        stranger.write_text(f"{bed.git_host.namespace.address} {host.key.with_suffix('.pub').read_text()}")
        b = bed.server("b")
        known, b.settings["known_hosts"] = b.settings["known_hosts"], str(stranger)
        b.run()
        refused = "the host key is unknown or has changed"
        bed.eventually(lambda: refused in b.said or bed.remote.tip("status/b"), 60, "b to say that the host has another key")
        assert refused in b.said and bed.remote.tip("status/b") is None, "b talks to a host with another key than it was given"
        b.stop()
        b.settings["known_hosts"] = known
        bed.run("a", "b")
        bed.settle(first, "a", "b")
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
