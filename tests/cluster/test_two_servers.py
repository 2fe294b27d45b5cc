"""Two servers, real parts: the first deployment, a toggle, a version that fails on one of them, a revert."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_a_version_is_switched_on_all_servers_or_on_none(bed: Bed) -> None:
    bed.run("a", "b")
    both = {"servers_count": 2}
    bed.deploy({"web": bed.web("1", **both), "api": bed.app("1", **both)}, "First", bed.inventory("a", "b"), "a", "b")
    assert bed.server("a").version() == bed.server("b").version() == "1"
