"""Several requests for one combiner at once: one's fault concerns no other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2
from cir.vectors import pack, unpack
from combiner_service.builtin import builtin_names
from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from combiner_service.checkpoint_directory import CheckpointDirectory
from combiner_service.combine_queue import Job, Outcome
from combiner_service.combiner import Combined, Pairs, weighted
from combiner_service.executor import CombineExecutor
from combiner_service.metrics import CombinerMetrics
from combiner_service.network import NetworkCombiner
from combiner_service.registry import Registry
from combiner_service.request import parse_request
from service_runtime.errors import ServiceError
from tests.combiner_service.conftest import sample
from tests.combiner_service.examples import combine_by_formulae, features_of, weights_of

pytestmark = pytest.mark.torch

NAME = "combiner/own"


def request(seed: int, *, rows: int = 2, model: str = "", weight: float | None = None) -> pb.CombineRequest:
    return pb.CombineRequest(
        image_features=pack(features_of(rows, seed=seed), fingerprint=model),
        text_features=pack(features_of(rows, seed=seed + 1)),
        text_weight=weight,
    )


class Fixture:
    def __init__(self, folder: Path) -> None:
        metadata = CheckpointMetadata(model_fingerprint="model-a")
        write_checkpoint(folder / "own.safetensors", weights_of(seed=3), metadata)
        self.metrics = CombinerMetrics(builtin_names())
        self.combining = CombineExecutor(
            Registry(CheckpointDirectory(folder, {}), metrics=self.metrics), self.metrics
        )

    def __call__(self, name: str, *requests: pb.CombineRequest) -> list[Outcome]:
        loop = asyncio.new_event_loop()
        try:
            calls = [
                parse_request(one, default_combiner=name, max_batch_items=100, max_dimension=100)
                for one in requests
            ]
            jobs = [Job(call, float("inf"), loop.create_future(), 0.0) for call in calls]
            return list(self.combining(jobs))
        finally:
            loop.close()


@pytest.fixture
def combine(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def check(outcome: Outcome, seed: int, *, rows: int = 2, weight: float | None = None) -> None:
    assert isinstance(outcome, pb.CombineResponse), outcome
    image, text = features_of(rows, seed=seed), features_of(rows, seed=seed + 1)
    wanted, scalar = combine_by_formulae(weights_of(seed=3), image, text)
    own = Combined(wanted.astype(np.float32), scalar.astype(np.float32))
    moved = weighted(own, Pairs(image, text, weight))
    np.testing.assert_allclose(unpack(outcome.query_vectors), moved.query_vectors, atol=1e-5)
    np.testing.assert_allclose(outcome.text_weights, moved.text_weights, atol=1e-5)
    assert outcome.combiner == NAME
    assert outcome.query_vectors.model_fingerprint == "model-a"


def reasons(outcomes: list[Outcome]) -> list[str]:
    return [
        errors_pb2.ErrorReason.Name(one.reason) if isinstance(one, ServiceError) else "" for one in outcomes
    ]


def test_calls_with_and_without_weights_share_a_pass(combine: Fixture) -> None:
    outcomes = combine(NAME, request(1), request(2, rows=5, weight=0.25), request(3, rows=1, weight=1.0))
    check(outcomes[0], 1)
    check(outcomes[1], 2, rows=5, weight=0.25)
    check(outcomes[2], 3, rows=1, weight=1.0)
    collectors = combine.metrics.collectors()
    assert sample(collectors, "cir_combiner_batch_items_sum", kind="network") == 8
    assert sample(collectors, "cir_combiner_batch_items_count", kind="network") == 1
    assert sample(collectors, "cir_combiner_loads_total", outcome="ok") == 1


def test_faulty_calls_are_refused_and_their_neighbours_answered(combine: Fixture) -> None:
    not_finite = request(4)
    not_finite.text_features.CopyFrom(pack(np.full((2, 8), np.nan, np.float32)))
    overflows = request(5)
    overflows.image_features.CopyFrom(pack(np.full((2, 8), 3e38, np.float32)))
    unreadable = request(6)
    unreadable.image_features.data = b"abc"
    narrow = request(7)
    for field in ("image_features", "text_features"):
        getattr(narrow, field).CopyFrom(pack(features_of(2, 5)))
    outcomes = combine(
        NAME,
        *(request(1), not_finite, overflows, unreadable, request(2, model="model-b")),
        *(narrow, request(8, weight=2.0), request(9)),
    )
    check(outcomes[0], 1)
    check(outcomes[7], 9)
    assert reasons(outcomes) == [
        *("", "NOT_FINITE", "NOT_FINITE", "WRONG_DIMENSION", "FINGERPRINT_MISMATCH"),
        *("WRONG_DIMENSION", "OUT_OF_RANGE", ""),
    ]


def test_an_unknown_name_refuses_all_but_what_else_was_wrong_first(combine: Fixture) -> None:
    assert reasons(combine("combiner/nope", request(1), request(2))) == ["COMBINER_NOT_FOUND"] * 2


def test_a_pass_that_fails_as_a_whole_is_tried_call_by_call(
    combine: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = NetworkCombiner._forward

    def fails(self: NetworkCombiner, calls: Any) -> Any:
        rows = sum(len(call.image_features) for call in calls)
        if rows > 4 or any(len(call.image_features) == 3 for call in calls):
            raise MemoryError("not enough memory")
        return forward(self, calls)

    monkeypatch.setattr(NetworkCombiner, "_forward", fails)
    outcomes = combine(NAME, request(1), request(2, rows=3), request(3))
    check(outcomes[0], 1)
    check(outcomes[2], 3)
    assert reasons(outcomes) == ["", "MODEL_FAILED", ""]
