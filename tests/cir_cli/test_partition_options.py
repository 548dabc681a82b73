"""What the flags of `cir index` say about dividing the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir_cli.errors import Failure
from cir_cli.partition_options import Division, Engine, read_division

PLAIN: dict[str, Any] = {
    "engine": Engine.LOCAL,
    "parts": None,
    "partition": "",
    "finish": False,
    "partitions": 8,
    "ray_address": "",
    "of_whole_runs": {"--sync": False, "--dry-run": False},
}
PARTS = Path("parts")


def read(**changes: Any) -> Division | None:
    return read_division(**{**PLAIN, **changes})


def test_what_is_asked_for() -> None:
    assert read() is None
    assert read(parts=PARTS, partition="2/8") == Division(PARTS, partition="2/8")
    assert read(parts=PARTS, finish=True, of_whole_runs={"--sync": True}) == Division(PARTS, finish=True)
    assert read(parts=PARTS, engine=Engine.RAY, ray_address="auto") == Division(
        PARTS, ray_partitions=8, ray_address="auto"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"partition": "1/2"}, "--partition needs --parts"),
        ({"finish": True}, "--finish needs --parts"),
        ({"engine": Engine.RAY}, "--engine ray needs --parts"),
        ({"parts": PARTS}, "--parts needs one of"),
        ({"ray_address": "auto"}, "needs --engine ray"),
        ({"parts": PARTS, "finish": True, "partition": "1/2"}, "exclude each other"),
        ({"parts": PARTS, "partition": "1/2", "of_whole_runs": {"--sync": True}}, "--sync.*--finish"),
        ({"parts": PARTS, "engine": Engine.RAY, "of_whole_runs": {"--dry-run": True}}, "embeds nothing"),
    ],
)
def test_what_contradicts_itself(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Failure, match=told):
        read(**changes)
