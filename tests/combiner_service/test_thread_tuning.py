from collections.abc import Callable

import pytest

from combiner_service.thread_tuning import ThreadCounts, tune_threads


def chosen(seconds: Callable[[int], float], most: int) -> int:
    """Return the choice where a run with n threads takes `seconds(n)`, on a clock that only runs advance."""
    now = 0.0

    def run(threads: int) -> None:
        nonlocal now
        now += seconds(threads)

    return tune_threads(run, most, clock=lambda: now)


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [
        (lambda n: 1.0, 16, 1),  # nothing gained
        (lambda n: 1.0 / n, 16, 16),  # everything gained
        (lambda n: 1.0 / n, 6, 6),  # the most need not be a power of two
        (lambda n: 1.0 / min(n, 4), 16, 4),  # the memory is busy with four
        (lambda n: 1.0 - 0.05 * (n > 1), 2, 1),  # too little gained
        (lambda n: float(n), 8, 1),  # threads in each other's way
        (lambda n: 1.0, 1, 1),
    ],
)
def test_threads_are_doubled_while_it_pays(seconds: Callable[[int], float], most: int, expected: int) -> None:
    assert chosen(seconds, most) == expected


def test_one_slow_run_decides_nothing() -> None:
    runs: list[int] = []

    def seconds(threads: int) -> float:
        runs.append(threads)
        return 100.0 if len(runs) in (1, 3, 7) else 1.0 / threads

    assert chosen(seconds, 2) == 2


def test_few_rows_get_few_threads() -> None:
    choice = ThreadCounts(few=1, many=8)
    assert [choice.of_rows(rows) for rows in (1, 3, 4, 1000)] == [1, 1, 8, 8]
