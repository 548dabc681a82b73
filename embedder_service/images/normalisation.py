"""Mean and standard deviation of pixels, as people and config files write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def parse_mean(value: object) -> tuple[float, ...]:
    """Return the mean of red, green and blue; one number stands for all three.

    Raises:
        ValueError: another count, or a number outside 0 to 1.
    """
    numbers = _three(value, "mean")
    if not all(0 <= number <= 1 for number in numbers):
        raise ValueError(f"mean is {value!r}; expected numbers from 0 to 1, for pixels from 0 to 1")
    return numbers


def parse_std(value: object) -> tuple[float, ...]:
    """Return the standard deviation of red, green and blue; one number stands for all three.

    Raises:
        ValueError: another count, or a number that is not above 0 and at most 1.
    """
    numbers = _three(value, "std")
    if not all(0 < number <= 1 for number in numbers):
        raise ValueError(f"std is {value!r}; expected numbers above 0 and at most 1, for pixels from 0 to 1")
    return numbers


def _three(value: object, name: str) -> tuple[float, ...]:
    if isinstance(value, str):
        value = value.split(",")
    parts: Iterable[object] = value if isinstance(value, Sequence) else (value,)
    try:
        numbers = tuple(_number(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise ValueError(f"{name} is {value!r}; expected one number or three, for red, green and blue")
    return numbers * (3 // len(numbers))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    return float(value)
