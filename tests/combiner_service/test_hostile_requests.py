"""Requests that nobody should send, chosen and random: refused with a reason, and the service lives on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import grpc
import numpy as np
import pytest

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import vectors_pb2
from cir.vectors import pack, unpack
from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from tests.combiner_service.conftest import Serve, running
from tests.combiner_service.examples import features_of, weights_of
from tests.random_messages import FAULTS, REQUESTS, random_message
from tests.refused import refused

pytestmark = [pytest.mark.service, pytest.mark.torch]

Batch = vectors_pb2.VectorBatch
Row = vectors_pb2.FloatVector
INVALID = grpc.StatusCode.INVALID_ARGUMENT
SOUND = pack(features_of(2))


def both(batch: Batch, **rest: Any) -> pb.CombineRequest:
    return pb.CombineRequest(image_features=batch, text_features=batch, **rest)


def packed(dtype: str, value: float, rows: int = 2, dimension: int = 8) -> Batch:
    """Written byte by byte, for `pack` would refuse or repair some of these."""
    matrix = np.ones((rows, dimension), dtype)
    matrix[-1, 0] = value
    kind = vectors_pb2.VECTOR_TYPE_FLOAT16 if dtype == "<f2" else vectors_pb2.VECTOR_TYPE_FLOAT32
    return Batch(data=matrix.tobytes(), dimension=dimension, dtype=kind)


def plain(value: float, rows: int = 2) -> Batch:
    return Batch(rows=[Row(values=[1.0] * 7 + [value]) for _ in range(rows)])


HOSTILE = {
    "dimension 0": (both(Batch(data=bytes(64))), "WRONG_DIMENSION"),
    "dimension 0 beside rows of nothing": (both(Batch(rows=[Row()] * 3)), "WRONG_DIMENSION"),
    "giant dimension, no data": (both(Batch(dimension=2**32 - 1)), "FIELD_REQUIRED"),
    "giant dimension, some data": (both(Batch(data=bytes(8), dimension=2**31)), "WRONG_DIMENSION"),
    "giant dimension in rows": (both(Batch(rows=[Row(values=[1.0] * 5000)])), "WRONG_DIMENSION"),
    "many tiny rows": (both(Batch(data=bytes(4 * 5000), dimension=1)), "TOO_MANY_ITEMS"),
    "many rows of nothing": (both(Batch(rows=[Row()] * 5000)), "TOO_MANY_ITEMS"),
    "half a value": (both(Batch(data=bytes(33), dimension=8)), "WRONG_DIMENSION"),
    "half a float16": (
        both(Batch(data=bytes(17), dimension=8, dtype=vectors_pb2.VECTOR_TYPE_FLOAT16)),
        "WRONG_DIMENSION",
    ),
    "nan float32": (both(packed("<f4", np.nan)), "NOT_FINITE"),
    "inf float32": (both(packed("<f4", np.inf)), "NOT_FINITE"),
    "nan float16": (both(packed("<f2", np.nan)), "NOT_FINITE"),
    "inf float16": (both(packed("<f2", -np.inf)), "NOT_FINITE"),
    "nan plain": (both(plain(float("nan"))), "NOT_FINITE"),
    "inf plain": (both(plain(float("inf"))), "NOT_FINITE"),
    "zeros": (both(Batch(data=bytes(64), dimension=8)), "NOT_FINITE"),
    "negative zeros": (both(Batch(data=b"\0\0\0\x80" * 16, dimension=8)), "NOT_FINITE"),
    "counts": (pb.CombineRequest(image_features=SOUND, text_features=pack(features_of(3))), "FIELD_INVALID"),
    "no text": (pb.CombineRequest(image_features=SOUND), "FIELD_REQUIRED"),
    "weight nan": (both(SOUND, text_weight=float("nan")), "OUT_OF_RANGE"),
    "weight inf": (both(SOUND, text_weight=float("inf")), "OUT_OF_RANGE"),
    "weight negative": (both(SOUND, text_weight=-5e-324), "OUT_OF_RANGE"),
    "weight above one": (both(SOUND, text_weight=1 + 1e-15), "OUT_OF_RANGE"),
    "fingerprint long": (
        pb.CombineRequest(
            image_features=Batch(data=bytes(32), dimension=8, model_fingerprint="f" * 10**6),
            text_features=Batch(data=bytes(32), dimension=8, model_fingerprint="g" * 10**6),
        ),
        "FINGERPRINT_MISMATCH",
    ),
    "dtype": (both(Batch(data=bytes(32), dimension=8, dtype=-1)), "FIELD_INVALID"),  # type: ignore[arg-type]
}
NAMES: tuple[str, ...] = (
    "\x00",
    "\n",
    "\x1b[2J",
    "combiner/\x00",
    "combiner/../../etc/passwd",
    "combiner/" + "n" * 100_000,
)
NAMES += ("\u202eevil", "combiner/own\n", " sum", "sum ", "combiner//own", "/combiner/own", "é" * 5000)


async def test_hostile_requests_are_refused_by_the_simple_combiners_and_by_networks(
    serve: Serve, tmp_path: Any
) -> None:
    write_checkpoint(tmp_path / "own.safetensors", weights_of(), CheckpointMetadata())
    stub = await serve(checkpoint_dir=tmp_path)
    for what, (message, reason) in HOSTILE.items():
        code = grpc.StatusCode.FAILED_PRECONDITION if reason == "FINGERPRINT_MISMATCH" else INVALID
        for name in ("sum", "slerp", "combiner/own"):
            asked = pb.CombineRequest()
            asked.CopyFrom(message)
            asked.combiner = name
            refusal = await refused(stub.Combine(asked, timeout=30))
            assert (what, refusal.code, refusal.reason) == (what, code, reason)
            assert len(refusal.message) <= 800
    assert unpack((await stub.Combine(both(SOUND, combiner="combiner/own"))).query_vectors).shape == (2, 8)


async def test_names_that_no_folder_could_hold_are_unknown_and_counted_as_no_kind(
    serve: Serve, tmp_path: Any
) -> None:
    write_checkpoint(tmp_path / "own.safetensors", weights_of(), CheckpointMetadata())
    stub = await serve(checkpoint_dir=tmp_path)
    for name in NAMES:
        refusal = await refused(stub.Combine(both(SOUND, combiner=name), timeout=30))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "COMBINER_NOT_FOUND")
        assert refusal.message.isprintable()


async def test_half_precision_and_plain_floats_are_taken_at_their_extremes(serve: Serve) -> None:
    stub = await serve()
    for batch in (packed("<f2", 65504.0), packed("<f2", 6e-8), plain(3e38), packed("<f4", 1e-45)):
        for name in ("sum", "slerp", "image", "text"):
            answer = await stub.Combine(both(batch, combiner=name))
            np.testing.assert_allclose(np.linalg.norm(unpack(answer.query_vectors), axis=1), 1, atol=1e-5)


async def test_random_requests_are_answered_or_refused() -> None:
    source = random.Random(20220619)
    sound = pack(np.eye(2, 16, dtype=np.float32))
    codes: Counter[str] = Counter()
    async with running() as stub:
        for number in range(REQUESTS):
            if number % 10 == 0:
                call = stub.ListCombiners(random_message(pb.ListCombinersRequest(), source), timeout=30)
            else:
                request = random_message(pb.CombineRequest(), source)
                for field in ("image_features", "text_features"):
                    if source.random() < 0.7:
                        getattr(request, field).CopyFrom(sound)
                if source.random() < 0.7:
                    request.combiner = source.choice(("sum", "slerp", "image", "text"))
                call = stub.Combine(request, timeout=30)
            code, said = await call.code(), await call.details()
            assert code not in FAULTS, (number, said)
            codes[code.name] += 1
        assert codes["OK"] > 0
        assert codes["INVALID_ARGUMENT"] > 0
        answer = await stub.Combine(pb.CombineRequest(image_features=sound, text_features=sound))
        assert len(answer.text_weights) == 2
