"""What is remembered of a pure function is its answer about the very same values."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.lately import lately
from reconciler.model.observed import Observed


def test_the_same_values_are_asked_about_once_and_equal_ones_again() -> None:
    asked: list[str] = []

    @lately
    def servers(one: Observed, other: Observed) -> tuple[str, str]:
        asked.append(one.server)
        return one.server, other.server

    first, twin, second = Observed(server="a"), Observed(server="a"), Observed(server="b")
    assert servers(first, second) is servers(first, second)
    assert asked == ["a"]
    assert servers(second, first) == ("b", "a")
    assert servers(first, second) == ("a", "b")
    assert servers(twin, second) == ("a", "b")
    assert asked == ["a", "b", "a", "a"]


def test_values_given_by_name_are_worked_out_each_time() -> None:
    asked = []

    @lately
    def doubled(value: int) -> int:
        asked.append(value)
        return 2 * value

    assert [doubled(value=1), doubled(1), doubled(value=2), doubled(1)] == [2, 2, 4, 2]
    assert asked == [1, 1, 2]


def test_what_failed_is_asked_again() -> None:
    answers: Iterator[int | ValueError] = iter([ValueError("no"), 3])

    @lately
    def next_answer(value: str) -> int:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    outcomes: list[int | str] = []
    for _ in range(3):
        try:
            outcomes.append(next_answer("x"))
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes == ["no", 3, 3]
