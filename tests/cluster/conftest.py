"""The test bed, made once for a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.bed import Bed
from tests.cluster.namespaces import obstacle
from tests.integration import images as image_store


@pytest.fixture(scope="session")
def whole_bed() -> Iterator[Bed]:
    """Fails, with what to do, where namespaces or Docker daemons cannot be made."""
    if problem := obstacle():
        pytest.fail(problem, pytrace=False)
    made = Bed(image_store.ensure())
    print(f"bed: {len(made.members)} Docker daemons with images in {made.started_s:.1f} s")
    yield made
    made.close()


@pytest.fixture
def bed(whole_bed: Bed) -> Iterator[Bed]:
    """New machines and a new repository; no daemon runs yet."""
    whole_bed.reset()
    yield whole_bed
    whole_bed.rest()
