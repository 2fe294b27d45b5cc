"""Values that the config or a secret gave a container do not leave the server in its words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.engine.redaction import SHORTEST, redacted


def test_a_value_is_blotted_out_wherever_it_stands_and_the_longest_first() -> None:
    """FAULTS 55."""
    lines = redacted(["login hunter22 failed", "hunter22-long", "fine"], ["hunter22", "hunter22-long"])
    assert lines == ("login *** failed", "***", "fine")


def test_each_line_of_a_value_counts_by_itself() -> None:
    assert redacted(["got BEGIN KEY", "got abcdef"], ["BEGIN KEY\n  abcdef\n"]) == ("got ***", "got ***")


def test_very_short_values_stay_as_they_hide_nothing() -> None:
    assert redacted(["on port 80"], ["on", "80", ""]) == ("on port 80",)


@given(
    st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=SHORTEST, max_size=12), min_size=1, max_size=4),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_no_value_is_left_in_any_line(values: list[str], before: str, after: str) -> None:
    lines = redacted([f"{before}{value}{after}" for value in values], values)
    assert not [value for value in values for line in lines if value in line]
