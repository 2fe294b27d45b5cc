"""Whether this machine may act under its server's name."""

from __future__ import annotations

import pytest

from reconciler.engine.standing import check_name
from reconciler.engine.world import Identity
from reconciler.errors import Stalled
from reconciler.model.container import Labels
from reconciler.model.observed import Container, Observed
from reconciler.model.report import InstanceReport, Report

EMPTY = Observed(server="a")
RUNNING = Observed(
    server="a", containers=(Container(id="1", name="nginx", labels=Labels(server="a", role="edge"), status="running"),)
)
TOLD = Report(server="a", instance="other", program="1")
BUSY = TOLD.model_copy(update={"instances": (InstanceReport(service="shop/prod/web", slot="primary", spec="x1", phase="live"),)})


@pytest.mark.parametrize("told", [TOLD, BUSY])
def test_another_machine_of_the_same_name_is_refused_and_named(told: Report) -> None:
    """FAULTS 6: also while the first one has nothing to run yet, as both would acknowledge for the server from then on."""
    with pytest.raises(Stalled, match=r"instance other.*delete the branch status/a"):
        check_name("a", Identity("own"), told, EMPTY)


def test_its_own_past_is_known_by_its_containers_and_a_copied_state_by_its_origin() -> None:
    check_name("a", Identity("own"), BUSY, RUNNING)
    check_name("a", Identity("other"), BUSY, EMPTY)
    check_name("a", Identity("own"), None, EMPTY)
    with pytest.raises(Stalled):
        check_name("a", Identity("own", copied_from="other"), BUSY, RUNNING)
