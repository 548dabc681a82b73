"""The client of the embedder that services and tools share."""

from __future__ import annotations

import grpc
import grpc.aio
import numpy as np
import pytest

from cir.common.v1 import errors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder_client import BadAnswerError, EmbedderClient, ModelChangedError
from cir.errors import CirError, InvalidArgument, Overloaded, ResourceExhausted, Unavailable
from cir.retry import BUSY, BUSY_OR_AWAY, NO_RETRY, RetryPolicy
from cir.vectors import pack
from service_runtime.errors import ServiceError
from tests.indexer.conftest import address, embedder  # noqa: F401  # fixtures
from tests.indexer.fake_embedder import DIMENSION, FakeEmbedder, features_of
from tests.indexer.helpers import jpeg


async def embed(
    at: str, *images: bytes, fingerprint: str, retry: RetryPolicy = NO_RETRY
) -> tuple[np.ndarray, list[int]]:
    """Return the rows, and the indices of the images that failed."""
    async with grpc.aio.insecure_channel(at) as channel:
        client = EmbedderClient(channel, at, retry=retry)
        batch = await client.embed_images(images, fingerprint=fingerprint, timeout=10)
    return batch.features, list(batch.errors)


@pytest.mark.service
async def test_rows_stand_at_the_place_of_their_image(address: str, embedder: FakeEmbedder) -> None:  # noqa: F811
    rows, failed = await embed(address, jpeg(1), b"text", jpeg(2), fingerprint=embedder.fingerprint)
    assert failed == [1]
    np.testing.assert_array_equal(rows[[0, 2]], [features_of(jpeg(1)), features_of(jpeg(2))])


@pytest.mark.service
async def test_features_of_another_model_are_refused(address: str, embedder: FakeEmbedder) -> None:  # noqa: F811
    def spoil(response: pb.EmbedImagesResponse) -> None:
        response.features.model_fingerprint = "another"

    embedder.break_answer = spoil
    with pytest.raises(ModelChangedError, match="another") as raised:
        await embed(address, jpeg(1), fingerprint=embedder.fingerprint)
    assert (raised.value.expected, raised.value.actual) == (embedder.fingerprint, "another")
    assert raised.value.reason == "FINGERPRINT_MISMATCH"


@pytest.mark.service
async def test_too_many_rows_are_a_bad_answer(address: str, embedder: FakeEmbedder) -> None:  # noqa: F811
    def spoil(response: pb.EmbedImagesResponse) -> None:
        response.features.CopyFrom(pack(np.ones((3, DIMENSION), np.float32)))

    embedder.break_answer = spoil
    with pytest.raises(BadAnswerError, match="3 rows for 1 inputs"):
        await embed(address, jpeg(1), fingerprint=embedder.fingerprint, retry=RetryPolicy(5, BUSY_OR_AWAY))
    assert len(embedder.batches) == 1


@pytest.mark.service
async def test_a_full_embedder_is_asked_again_only_where_the_policy_says_so(
    address: str,  # noqa: F811
    embedder: FakeEmbedder,  # noqa: F811
) -> None:
    embedder.call_faults = [ServiceError(errors_pb2.OVERLOADED, "queue is full", retry_after=0.05)]
    with pytest.raises(Overloaded):
        await embed(address, jpeg(1), fingerprint=embedder.fingerprint)
    embedder.call_faults = [ServiceError(errors_pb2.OVERLOADED, "queue is full", retry_after=0.05)]
    rows, _ = await embed(address, jpeg(1), fingerprint=embedder.fingerprint, retry=RetryPolicy(5, BUSY))
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("error", "busy", "away"),
    [
        (Overloaded("full", retry_after=2.0), 2.0, 2.0),
        (ResourceExhausted("the message is too large"), None, None),
        (Unavailable("gone"), None, 0.0),
        (CirError("cancelled", code=grpc.StatusCode.CANCELLED), None, 0.0),
        (InvalidArgument("wrong"), None, None),
        (ValueError("not a call"), None, None),
    ],
)
def test_policies_name_the_failures_that_time_heals(
    error: Exception, busy: float | None, away: float | None
) -> None:
    assert RetryPolicy(1, BUSY).wait_asked(error) == busy
    assert RetryPolicy(1, BUSY_OR_AWAY).wait_asked(error) == away
    assert NO_RETRY.wait_asked(error) is None
