"""Every RPC and every refusal over real gRPC."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import vectors_pb2
from cir.limits import DEFAULT_COMBINER
from cir.vectors import pack, unpack
from combiner_service.builtin import SumCombiner
from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from combiner_service.combiner import unit_rows
from combiner_service.network import NetworkCombiner, meaningful_lambdas
from service_runtime.settings import software_version
from tests.combiner_service.conftest import Serve
from tests.combiner_service.examples import combine_by_formulae, features_of, save_published, weights_of
from tests.refused import refused

pytestmark = [pytest.mark.service, pytest.mark.torch]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def request(
    combiner: str = "",
    image: NDArray[np.float32] | None = None,
    text: NDArray[np.float32] | None = None,
    *,
    image_model: str = "",
    text_model: str = "",
    text_weight: float | None = None,
    encoding: vectors_pb2.VectorEncoding | None = None,
) -> pb.CombineRequest:
    image = features_of(3) if image is None else image
    text = features_of(3, seed=1) if text is None else text
    return pb.CombineRequest(
        combiner=combiner,
        image_features=pack(image, fingerprint=image_model),
        text_features=pack(text, fingerprint=text_model),
        text_weight=text_weight,
        encoding=encoding,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_published(tmp_path / "published.pt", weights_of(seed=1))
    metadata = CheckpointMetadata(model_fingerprint="model-a", metrics={"recall_at_10": 0.5}, epoch=9)
    write_checkpoint(tmp_path / "own.safetensors", weights_of(seed=2), metadata)
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04")
    return tmp_path


async def works(stub: Any) -> None:
    answer = await stub.Combine(request("sum"))
    assert unpack(answer.query_vectors).shape == (3, 8)


async def test_the_network_answers_as_evaluated_by_its_formulae(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder)
    for name, seed in (("published", 1), ("own", 2)):
        image, text = features_of(3), features_of(3, seed=1)
        answer = await stub.Combine(request(f"combiner/{name}"))
        expected, scalar = combine_by_formulae(weights_of(seed=seed), image, text)
        np.testing.assert_allclose(unpack(answer.query_vectors), expected, atol=1e-5)
        np.testing.assert_allclose(answer.text_weights, scalar, atol=1e-5)
        np.testing.assert_array_equal(
            answer.lambdas, meaningful_lambdas(np.array(answer.text_weights, np.float32), image, text)
        )
        assert answer.combiner == f"combiner/{name}"
        assert answer.elapsed.ToNanoseconds() > 0
        for weight, end in ((0.0, image), (0.5, expected), (1.0, text)):
            moved = await stub.Combine(request(f"combiner/{name}", text_weight=weight))
            np.testing.assert_allclose(unpack(moved.query_vectors), unit_rows(end), atol=1e-5)
            assert list(moved.text_weights) == [weight] * 3
            assert moved.lambdas == answer.lambdas


@pytest.mark.parametrize(("name", "weight"), [("sum", 0.5), ("slerp", 0.6), ("image", 0.0), ("text", 1.0)])
async def test_simple_combiners_answer_unit_vectors_and_their_weight(
    serve: Serve, name: str, weight: float
) -> None:
    answer = await (await serve()).Combine(request(name))
    np.testing.assert_allclose(np.linalg.norm(unpack(answer.query_vectors), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(answer.text_weights, [weight] * 3, rtol=1e-6)
    assert not answer.lambdas


async def test_an_empty_name_means_the_default(serve: Serve, folder: Path) -> None:
    assert (await (await serve()).Combine(request())).combiner == DEFAULT_COMBINER
    stub = await serve(checkpoint_dir=folder, default_combiner="combiner/own")
    assert (await stub.Combine(request())).combiner == "combiner/own"


async def test_answers_are_written_as_asked(serve: Serve) -> None:
    stub = await serve()
    packed = unpack((await stub.Combine(request())).query_vectors)
    half = vectors_pb2.VectorEncoding(dtype=vectors_pb2.VECTOR_TYPE_FLOAT16)
    answer = (await stub.Combine(request(encoding=half))).query_vectors
    assert len(answer.data) == 2 * packed.size
    np.testing.assert_allclose(unpack(answer), packed, atol=1e-3)
    plain = vectors_pb2.VectorEncoding(plain_floats=True)
    answer = (await stub.Combine(request(encoding=plain))).query_vectors
    assert len(answer.rows) == 3
    assert not answer.data
    np.testing.assert_array_equal(unpack(answer), packed)


async def test_features_may_come_as_plain_floats_and_half_precision(serve: Serve) -> None:
    stub = await serve()
    message = pb.CombineRequest(
        image_features=pack(features_of(3), encoding=vectors_pb2.VectorEncoding(plain_floats=True)),
        text_features=pack(
            features_of(3, seed=1), encoding=vectors_pb2.VectorEncoding(dtype=vectors_pb2.VECTOR_TYPE_FLOAT16)
        ),
    )
    expected = unpack((await stub.Combine(request())).query_vectors)
    np.testing.assert_allclose(unpack((await stub.Combine(message)).query_vectors), expected, atol=1e-3)


async def test_the_answer_names_the_model_of_its_vectors(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder)
    for name, image_model, text_model, expected in (
        ("sum", "", "", ""),
        ("sum", "model-b", "", "model-b"),
        ("sum", "", "model-b", "model-b"),
        ("combiner/own", "", "", "model-a"),
        ("combiner/own", "model-a", "model-a", "model-a"),
        ("combiner/published", "model-b", "model-b", "model-b"),
    ):
        answer = await stub.Combine(request(name, image_model=image_model, text_model=text_model))
        assert answer.query_vectors.model_fingerprint == expected


async def test_features_of_another_model_are_refused_with_both_fingerprints(
    serve: Serve, folder: Path
) -> None:
    stub = await serve(checkpoint_dir=folder, checkpoint_fingerprints={"published": "model-p"})
    refusal = await refused(stub.Combine(request("combiner/own", image_model="model-b")))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "FINGERPRINT_MISMATCH")
    assert "model-a" in refusal.message
    assert "model-b" in refusal.message
    assert refusal.field == "image_features.model_fingerprint"
    refusal = await refused(stub.Combine(request("combiner/published", text_model="model-b")))
    assert refusal.reason == "FINGERPRINT_MISMATCH"
    assert "model-p" in refusal.message
    refusal = await refused(stub.Combine(request("sum", image_model="model-a", text_model="model-b")))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "FINGERPRINT_MISMATCH")
    await works(stub)


async def test_unknown_combiners_are_refused_with_those_there_are(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder)
    for name in ("average", "combiner/nope", "combiner/../../secret", "combiner/", "SUM", "\x00", "x" * 9999):
        refusal = await refused(stub.Combine(request(name)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "COMBINER_NOT_FOUND")
        assert "combiner/own" in refusal.message
        assert refusal.field == "combiner"
    await works(stub)


async def test_unusable_checkpoints_are_refused_with_the_reason(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder)
    refusal = await refused(stub.Combine(request("combiner/broken")))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "COMBINER_UNUSABLE")
    assert "not a whole file of torch.save" in refusal.message
    await works(stub)


def damaged(row: int, value: float) -> NDArray[np.float32]:
    features = features_of(3)
    features[row] = value
    return features


@pytest.mark.parametrize("name", ["sum", "slerp", "image", "text", "combiner/own"])
@pytest.mark.parametrize(
    ("change", "reason", "field", "words"),
    [
        ({"image": damaged(1, np.nan)}, "NOT_FINITE", "image_features", "row 1: NaN"),
        ({"text": damaged(2, -np.inf)}, "NOT_FINITE", "text_features", "row 2: NaN or inf"),
        ({"text": damaged(0, 0)}, "NOT_FINITE", "text_features", "row 0: all values are zero"),
        ({"text": features_of(2)}, "FIELD_INVALID", "text_features", "3 image features but 2 text"),
        ({"text": features_of(3, 5)}, "WRONG_DIMENSION", "text_features", "8 values, text features 5"),
        ({"text_weight": 1.5}, "OUT_OF_RANGE", "text_weight", "from 0"),
        ({"text_weight": -0.1}, "OUT_OF_RANGE", "text_weight", "from 0"),
        ({"text_weight": float("nan")}, "OUT_OF_RANGE", "text_weight", "from 0"),
        (
            {"encoding": vectors_pb2.VectorEncoding(dtype=77)},  # type: ignore[arg-type]
            "FIELD_INVALID",
            "encoding.dtype",
            "use VECTOR_TYPE_FLOAT32 or VECTOR_TYPE_FLOAT16",
        ),
    ],
)
async def test_bad_input_is_refused_by_every_combiner_and_the_next_call_works(
    serve: Serve, folder: Path, name: str, change: dict[str, Any], reason: str, field: str, words: str
) -> None:
    stub = await serve(checkpoint_dir=folder)
    refusal = await refused(stub.Combine(request(name, **change)))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, reason, field)
    assert words in refusal.message
    await works(stub)


async def test_a_network_refuses_features_of_another_dimension(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder)
    refusal = await refused(stub.Combine(request("combiner/own", features_of(2, 5), features_of(2, 5))))
    assert (refusal.code, refusal.reason) == (INVALID, "WRONG_DIMENSION")
    assert "have 5 values, the combiner takes 8" in refusal.message


async def test_a_network_refuses_features_that_overflow_it(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder)
    refusal = await refused(stub.Combine(request("combiner/own", image=damaged(1, 3e38))))
    assert (refusal.code, refusal.reason) == (INVALID, "NOT_FINITE")
    assert "row 1" in refusal.message


async def test_features_that_cancel_out_are_refused(serve: Serve) -> None:
    refusal = await refused((await serve()).Combine(request("sum", features_of(2), -features_of(2))))
    assert (refusal.code, refusal.reason) == (INVALID, "NOT_FINITE")
    assert "row 0" in refusal.message


@pytest.mark.parametrize("name", ["image", "text"])
async def test_image_and_text_refuse_a_text_weight(serve: Serve, name: str) -> None:
    refusal = await refused((await serve()).Combine(request(name, text_weight=0.5)))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "FIELD_INVALID", "text_weight")


Batch = vectors_pb2.VectorBatch
Row = vectors_pb2.FloatVector


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (Batch(), "FIELD_REQUIRED"),
        (Batch(dimension=8), "FIELD_REQUIRED"),
        (Batch(data=b"abcd"), "WRONG_DIMENSION"),
        (Batch(data=b"abc", dimension=1), "WRONG_DIMENSION"),
        (Batch(data=bytes(32), dimension=3), "WRONG_DIMENSION"),
        (Batch(data=bytes(32), dimension=8, dtype=9), "FIELD_INVALID"),  # type: ignore[arg-type]
        (Batch(data=bytes(4), dimension=1, rows=[Row(values=[1.0])]), "FIELD_INVALID"),
        (Batch(rows=[Row(values=[1.0]), Row(values=[1.0, 2.0])]), "WRONG_DIMENSION"),
        (Batch(rows=[Row()]), "WRONG_DIMENSION"),
        (Batch(rows=[Row(values=[1.0])], dimension=2), "WRONG_DIMENSION"),
        (Batch(data=bytes(4), dimension=2**32 - 1), "WRONG_DIMENSION"),
    ],
)
async def test_batches_that_cannot_be_read_are_refused(serve: Serve, batch: Batch, reason: str) -> None:
    stub = await serve()
    for field in ("image_features", "text_features"):
        message = request()
        getattr(message, field).CopyFrom(batch)
        refusal = await refused(stub.Combine(message))
        assert (refusal.code, refusal.reason, refusal.field) == (INVALID, reason, field)
    refusal = await refused(stub.Combine(pb.CombineRequest()))
    assert refusal.reason == "FIELD_REQUIRED"
    await works(stub)


@pytest.mark.parametrize("plain_floats", [False, True])
async def test_limits_are_refused_with_the_limit(serve: Serve, plain_floats: bool) -> None:
    stub = await serve(max_batch_items=4, max_dimension=8)
    encoding = vectors_pb2.VectorEncoding(plain_floats=plain_floats)
    for rows, dimension, reason, words in (
        (5, 8, "TOO_MANY_ITEMS", "5 rows; at most 4"),
        (4, 9, "WRONG_DIMENSION", "9 values; at most 8"),
    ):
        batch = pack(features_of(rows, dimension), encoding=encoding)
        refusal = await refused(stub.Combine(pb.CombineRequest(image_features=batch, text_features=batch)))
        assert (refusal.code, refusal.reason) == (INVALID, reason)
        assert words in refusal.message
    batch = pack(features_of(4, 8), encoding=encoding)
    await stub.Combine(pb.CombineRequest(image_features=batch, text_features=batch))


async def test_info_tells_limits_and_what_there_is(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder, max_batch_items=7, max_dimension=99, max_concurrent_calls=5)
    info = await stub.GetCombinerInfo(pb.GetCombinerInfoRequest())
    assert info.limits == pb.CombinerLimits(
        max_batch_items=7,
        max_dimension=99,
        max_message_bytes=64 * 1024 * 1024,
        max_concurrent_calls=5,
        max_message_parts=100_000,
    )
    assert info.combiners == 6
    assert info.default_combiner == DEFAULT_COMBINER
    assert info.version


async def test_list_shows_everything_in_pages(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder)
    found, token = [], ""
    while True:
        answer = await stub.ListCombiners(pb.ListCombinersRequest(page_size=2, page_token=token))
        found += answer.combiners
        token = answer.next_page_token
        if not token:
            break
    assert [combiner.name for combiner in found] == [
        "sum",
        "slerp",
        "image",
        "text",
        "combiner/broken",
        "combiner/own",
        "combiner/published",
    ]
    assert [combiner.takes_text_weight for combiner in found[:4]] == [True, True, False, False]
    assert all(combiner.description for combiner in found)
    broken, own, published = found[4:]
    assert "not a whole file" in broken.problem
    assert (own.dimension, own.model_fingerprint, own.problem) == (8, "model-a", "")
    assert dict(own.metadata) == {
        "epoch": "9",
        "metrics": '{"recall_at_10": 0.5}',
        "software_version": software_version(),
    }
    assert dict(published.metadata) == {"epoch": "7"}


async def test_a_bad_page_is_refused(serve: Serve) -> None:
    stub = await serve()
    refusal = await refused(stub.ListCombiners(pb.ListCombinersRequest(page_size=-1)))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "OUT_OF_RANGE", "page_size")
    refusal = await refused(stub.ListCombiners(pb.ListCombinersRequest(page_token="damaged")))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "PAGE_TOKEN_INVALID", "page_token")


async def test_a_new_checkpoint_is_served_without_a_restart(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder, checkpoint_scan_seconds=0)
    assert (await refused(stub.Combine(request("combiner/new")))).reason == "COMBINER_NOT_FOUND"
    write_checkpoint(folder / "new.safetensors", weights_of(seed=5), CheckpointMetadata())
    answer = await stub.Combine(request("combiner/new"))
    expected, _ = combine_by_formulae(weights_of(seed=5), features_of(3), features_of(3, seed=1))
    np.testing.assert_allclose(unpack(answer.query_vectors), expected, atol=1e-5)


async def test_calls_side_by_side_get_their_own_answers(serve: Serve, folder: Path) -> None:
    stub = await serve(checkpoint_dir=folder, worker_threads=4)
    pairs = [
        (features_of(1 + seed % 5, seed=seed), features_of(1 + seed % 5, seed=-seed)) for seed in range(60)
    ]
    answers = await asyncio.gather(
        *(stub.Combine(request("combiner/own", image, text)) for image, text in pairs)
    )
    for (image, text), answer in zip(pairs, answers, strict=True):
        expected, _ = combine_by_formulae(weights_of(seed=2), image, text)
        np.testing.assert_allclose(unpack(answer.query_vectors), expected, atol=1e-5)


class SlowSum:
    """Makes `sum` wait until it is let go, and remembers how many pairs each computation had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        self.computed: list[int] = []
        original = SumCombiner.combine

        def slow(combiner: SumCombiner, image: Any, *rest: Any) -> Any:
            self.computed.append(len(image))
            self.entered.set()
            assert self.leave.wait(30)
            return original(combiner, image, *rest)

        monkeypatch.setattr(SumCombiner, "combine", slow)

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)


def sum_of(rows: int) -> pb.CombineRequest:
    return request("sum", features_of(rows), features_of(rows))


async def test_a_call_whose_time_ran_out_while_it_waited_is_never_computed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, slow = await serve(worker_threads=1), SlowSum(monkeypatch)
    first = asyncio.ensure_future(stub.Combine(sum_of(1)))
    await slow.busy()
    refusal = await refused(stub.Combine(sum_of(2), timeout=0.2))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    cancelled = asyncio.ensure_future(stub.Combine(sum_of(4)))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    await asyncio.sleep(0.1)
    slow.leave.set()
    await first
    await stub.Combine(sum_of(3))
    assert slow.computed == [1, 3]


async def test_more_than_may_wait_is_refused_with_a_time_to_come_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, slow = await serve(worker_threads=1, max_waiting_items=4), SlowSum(monkeypatch)
    calls = [asyncio.ensure_future(stub.Combine(sum_of(1)))]
    await slow.busy()
    calls += [asyncio.ensure_future(stub.Combine(sum_of(2))) for _ in range(5)]
    # Two of them fill what may wait, the others are refused at once.
    while sum(call.done() for call in calls) < 3:  # noqa: ASYNC110 - calls, not an event
        await asyncio.sleep(0.01)
    # Other calls are not kept out.
    assert (await stub.GetCombinerInfo(pb.GetCombinerInfoRequest(), timeout=10)).combiners == 4
    slow.leave.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, pb.CombineResponse) for one in ended) == 3
    for call in calls:
        if call.exception():
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
            assert refusal.retry_after
            assert "max_waiting_items" in refusal.message
    await works(stub)


async def test_calls_side_by_side_share_forward_passes(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward = NetworkCombiner._forward

    def slow(combiner: NetworkCombiner, calls: Any) -> Any:
        passes.append(len(calls))
        time.sleep(0.05)
        return forward(combiner, calls)

    monkeypatch.setattr(NetworkCombiner, "_forward", slow)
    for limit in (256, 1):
        passes.clear()
        stub = await serve(checkpoint_dir=folder, max_forward_items=limit, worker_threads=8)
        calls = [
            stub.Combine(request("combiner/own", features_of(1, seed=n), features_of(1, seed=-n)))
            for n in range(24)
        ]
        for number, answer in enumerate(await asyncio.gather(*calls)):
            wanted, _ = combine_by_formulae(
                weights_of(seed=2), features_of(1, seed=number), features_of(1, seed=-number)
            )
            np.testing.assert_allclose(unpack(answer.query_vectors), wanted, atol=1e-5)
        assert sum(passes) == 24
        assert len(passes) <= 12 if limit > 1 else passes == [1] * 24
