"""A short fuzz of each service; `scripts/fuzz.py` runs long ones."""

from __future__ import annotations

import os

import pytest

from tests.robustness.fuzz import Fuzzer
from tests.robustness.requests import good_requests
from tests.robustness.stack import Stack

pytestmark = [pytest.mark.service, pytest.mark.slow]

REQUESTS = int(os.environ.get("CIR_FUZZ_REQUESTS", "1000"))


@pytest.mark.parametrize("service", ["embedder", "combiner", "search"])
async def test_nothing_that_is_sent_breaks_a_service(stack: Stack, service: str) -> None:
    tally = await Fuzzer(service, stack.by_name()[service], good_requests(service), seed=1).run(REQUESTS)
    assert tally.findings == []
    assert tally.requests == REQUESTS
    codes = {code for _, code in tally.answers}
    # The attacks reach what is behind the parser, and are refused there.
    assert {"OK", "INVALID_ARGUMENT"} <= codes
