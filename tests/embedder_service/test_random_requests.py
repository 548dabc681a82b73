"""Whatever a client sends: an answer or a refusal, never UNKNOWN or INTERNAL, and the service goes on."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from cir.embedder.v1 import embedder_pb2 as pb
from tests.embedder_service.conftest import running, small_settings
from tests.random_messages import FAULTS, REQUESTS, random_message


async def test_random_requests_are_answered_or_refused(tmp_path: Path) -> None:
    source = random.Random(20220619)
    codes: Counter[str] = Counter()
    async with running(small_settings(tmp_path)) as stub:
        for _ in range(REQUESTS):
            if source.random() < 0.5:
                request = random_message(pb.EmbedImagesRequest(), source)
                method = stub.EmbedImages
            else:
                request = random_message(pb.EmbedTextsRequest(), source)
                method = stub.EmbedTexts
            if source.random() < 0.8:
                request.expected_model_fingerprint = ""
            call = method(request, timeout=30)
            code, said = await call.code(), await call.details()
            assert code not in FAULTS, (request, said)
            codes[code.name] += 1
        assert codes["OK"] > 0
        assert codes["INVALID_ARGUMENT"] > 0

        # A stream answers bad batches one by one and goes on.
        batches = [random_message(pb.EmbedStreamRequest(), source) for _ in range(REQUESTS // 4)]
        sound = pb.EmbedStreamRequest(batch_id=7, texts=pb.EmbedTextsRequest(texts=["red"]))
        answers = [answer async for answer in stub.EmbedStream(iter([*batches, sound]), timeout=120)]
        assert len(answers) == len(batches) + 1
        assert any(answer.batch_id == 7 and answer.texts.features.data for answer in answers)
