"""First-seen times: kept over restarts of the program, begun anew after a boot or a loss, never too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.effects.journal import Journal
from reconciler.engine.times import FILE, Times
from tests.engine.clock import HandClock


def test_a_fact_is_timed_from_when_it_was_first_seen_until_it_no_longer_holds(tmp_path: Path) -> None:
    clock = HandClock()
    times = Times(clock, Journal(tmp_path))
    assert times.update({"waits"}).seconds == {"waits": 0.0}
    clock.pass_by(30)
    assert times.update({"waits", "new"}).seconds == {"waits": 30.0, "new": 0.0}
    assert times.update({"new"}).seconds == {"new": 0.0}
    clock.pass_by(5)
    assert times.update({"waits", "new"}).seconds == {"waits": 0.0, "new": 5.0}


def test_a_restarted_program_goes_on_counting(tmp_path: Path) -> None:
    clock = HandClock()
    Times(clock, Journal(tmp_path)).update({"waits"})
    clock.pass_by(60)
    assert Times(clock, Journal(tmp_path)).update({"waits"}).seconds == {"waits": 60.0}


def test_after_a_boot_waits_begin_anew_although_the_clock_reads_more(tmp_path: Path) -> None:
    """The monotonic clock of another boot is another clock (DESIGN section 6, Time)."""
    Times(HandClock(100.0), Journal(tmp_path)).update({"waits"})
    assert Times(HandClock(9000.0, "boot-2"), Journal(tmp_path)).update({"waits"}).seconds == {"waits": 0.0}


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"null", b'{"boot": "boot-1"}', b'{"boot": "boot-1", "seen": 3, "marked": []}'])
def test_a_damaged_file_only_lengthens_a_wait(tmp_path: Path, left: bytes) -> None:
    """FAULTS 4."""
    (tmp_path / FILE).write_bytes(left)
    clock = HandClock()
    times = Times(clock, Journal(tmp_path))
    assert times.update({"waits"}).seconds == {"waits": 0.0}
    clock.pass_by(1)
    assert Times(clock, Journal(tmp_path)).update({"waits"}).seconds == {"waits": 1.0}


def test_a_time_from_the_future_counts_as_now(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"boot": "boot-1", "seen": {"waits": 5000.0}, "marked": []}')
    assert Times(HandClock(1000.0), Journal(tmp_path)).update({"waits"}).seconds == {"waits": 0.0}


def test_a_mark_lasts_while_its_subject_does_and_over_a_restart(tmp_path: Path) -> None:
    clock = HandClock()
    times = Times(clock, Journal(tmp_path))
    times.mark("signalled c1")
    clock.pass_by(10)
    assert times.update(set()).seconds == {"signalled c1": 10.0}
    again = Times(clock, Journal(tmp_path))
    assert again.marks() == {"signalled c1"}
    again.keep_marks({"signalled c1", "signalled c2"})
    assert again.marks() == {"signalled c1"}
    again.keep_marks({"signalled c2"})
    assert again.update(set()).seconds == {} and Times(clock, Journal(tmp_path)).marks() == frozenset()


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    """I10: in a steady state the disk is left alone too."""
    clock = HandClock()
    times = Times(clock, Journal(tmp_path))
    times.update({"waits"})
    before = (tmp_path / FILE).stat()
    for _ in range(5):
        clock.pass_by(1)
        times.update({"waits"})
        times.keep_marks(set())
    after = (tmp_path / FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
