"""Rewritten ranges mean the same to an engine that compares integers and to one that compares doubles."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from cir.fields import FieldType
from vector_store.exact_ranges import exact_filter
from vector_store.filters import Condition, Filter, MatchAny, Range

INT64 = st.integers(-(2**63), 2**63 - 1)
EDGES = st.sampled_from([2**53, -(2**53), 2**54, 2**60, -(2**60), 2**62, 2**63 - 1, -(2**63), 0])
INTEGERS = st.one_of(
    INT64,
    st.builds(lambda edge, step: max(-(2**63), min(2**63 - 1, edge + step)), EDGES, st.integers(-3000, 3000)),
)
BOUNDS = st.one_of(st.none(), INTEGERS, st.floats(allow_nan=False, allow_infinity=False))


def passes(value: float, bounds: Range) -> bool:
    """Compare exactly, as Python does."""
    return (
        (bounds.gt is None or value > bounds.gt)  # type: ignore[operator]
        and (bounds.gte is None or value >= bounds.gte)  # type: ignore[operator]
        and (bounds.lt is None or value < bounds.lt)  # type: ignore[operator]
        and (bounds.lte is None or value <= bounds.lte)  # type: ignore[operator]
    )


def as_doubles(value: float, condition: Condition) -> bool:
    """Answer as an engine that turns the stored integer and the bounds into doubles."""
    return _answer(value, condition, lambda stored, bound: (float(stored), bound))


def as_integers(value: float, condition: Condition) -> bool:
    """Answer as an engine that turns the bounds into integers of 64 bits."""
    return _answer(
        value, condition, lambda stored, bound: (stored, max(-(2**63), min(2**63 - 1, int(bound))))
    )


def _answer(value, condition, pair) -> bool:  # type: ignore[no-untyped-def]
    match condition:
        case Filter(must, should, must_not):
            assert not must_not
            return all(_answer(value, each, pair) for each in must) and (
                not should or any(_answer(value, each, pair) for each in should)
            )
        case MatchAny(_, values):
            return value in values
        case Range():
            sides = {}
            for side in ("gt", "gte", "lt", "lte"):
                bound = getattr(condition, side)
                if bound is not None:
                    assert isinstance(bound, float)
                    stored, sides[side] = pair(value, bound)
                    if not passes(stored, Range("n", **{side: sides[side]})):
                        return False
            return True
    raise AssertionError(condition)


@given(INTEGERS, BOUNDS, BOUNDS, BOUNDS, BOUNDS)
@example(9007199254740992, None, None, 9007199254740993, None)
@example(9007199254740993, None, None, None, 9007199254740993)
@example(9007199254740992, 9007199254740991, None, None, None)
@example(9007199254740993, 9007199254740993, None, None, None)
@example(2**63 - 1, None, 2**63 - 1, None, None)
@example(-(2**63), None, None, None, -(2**63))
def test_integer_ranges_are_exact_however_an_engine_compares(
    value: int, gt: float | None, gte: float | None, lt: float | None, lte: float | None
) -> None:
    bounds = Range("n", gt, gte, lt, lte)
    exact = exact_filter(Filter(must=(bounds,)), {"n": FieldType.INTEGER})
    assert exact is not None
    assert as_doubles(value, exact) == as_integers(value, exact) == passes(value, bounds)


@given(st.floats(allow_nan=False, allow_infinity=False), BOUNDS, BOUNDS, BOUNDS, BOUNDS)
@example(9007199254740992.0, None, None, 9007199254740993, None)
@example(9007199254740994.0, 9007199254740993, None, None, None)
def test_float_ranges_with_integer_bounds_are_exact(
    value: float, gt: float | None, gte: float | None, lt: float | None, lte: float | None
) -> None:
    bounds = Range("x", gt, gte, lt, lte)
    exact = exact_filter(Filter(must_not=(Filter(must=(bounds,)),)), {"x": FieldType.FLOAT})
    assert exact is not None
    (inner,) = exact.must_not
    assert as_doubles(value, inner) == passes(value, bounds)


@given(INTEGERS, INTEGERS)
def test_few_values_are_listed(gte: int, lte: int) -> None:
    exact = exact_filter(Filter(must=(Range("n", gte=gte, lte=lte),)), {"n": FieldType.INTEGER})
    assert exact is not None
    (condition,) = exact.must
    listed = condition.should[-1] if isinstance(condition, Filter) else condition
    assert not isinstance(listed, MatchAny) or len(listed.values) <= 2 * 1536
