"""Whatever a client sends: an answer or a refusal, never UNKNOWN or INTERNAL, and the service goes on."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from cir.combiner.v1 import combiner_pb2 as pb
from cir.vectors import pack
from tests.combiner_service.conftest import running
from tests.random_messages import FAULTS, REQUESTS, random_message


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
