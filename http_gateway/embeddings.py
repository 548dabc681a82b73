"""`POST /v1/embeddings` in the shape that OpenAI's clients send: texts, and images as data URLs."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import numpy as np
from starlette.responses import JSONResponse, Response

from cir.common.v1 import errors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from cir.vectors import unpack
from http_gateway.codec import BadJsonError
from service_runtime.errors import ServiceError

_UNKNOWN = errors_pb2.FIELD_INVALID
_MOST_INPUTS = 256
Vector = np.ndarray[Any, np.dtype[np.float32]]
_KNOWN = frozenset({"input", "model", "encoding_format", "dimensions", "user"})


@dataclass(frozen=True, slots=True)
class Asked:
    """Texts and image files to embed, in order."""

    inputs: Sequence[str | bytes]
    as_base64: bool


def read(body: Mapping[str, Any], files: Mapping[str, bytes]) -> Asked:
    """Read a request's body. `model` and `user` are taken and not used: the embedder holds one model.

    `files` are images behind the inputs that are texts, each under its place: `input[2]`.

    Raises:
        BadJsonError: it is none.
    """
    unknown = body.keys() - _KNOWN
    if unknown:
        name = min(unknown)
        raise BadJsonError(f"there is no field {name[:100]!r}", name[:100])
    for name in ("model", "user"):
        if not isinstance(body.get(name, ""), str):
            raise BadJsonError(f"{name} is no text", name)
    given = body.get("input", [] if files else None)
    inputs: list[Any] = given if isinstance(given, list) else [given]
    if not 0 < len(inputs) + len(files) <= _MOST_INPUTS or not all(isinstance(one, str) for one in inputs):
        raise BadJsonError(
            f"input is a text or a list of 1 to {_MOST_INPUTS} texts, of which images are data URLs", "input"
        )
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadJsonError("encoding_format is float or base64", "encoding_format")
    if body.get("dimensions") is not None:
        raise BadJsonError("the model has one dimension; leave dimensions out", "dimensions")
    asked = [_input(one, number) for number, one in enumerate(inputs)]
    for name, content in files.items():
        if name != f"input[{len(asked)}]":
            raise BadJsonError(f"{name[:100]!r} is not the next image: input[{len(asked)}]", name[:100])
        asked.append(content)
    return Asked(asked, encoding == "base64")


def _input(text: str, number: int) -> str | bytes:
    if not text.startswith("data:"):
        return text
    head, comma, data = text.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise binascii.Error("no base64 follows")
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise BadJsonError(
            f"input {number} is no data URL of an image: {error}", f"input[{number}]"
        ) from error


async def answer(
    asked: Asked, channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str]], timeout: float
) -> Response:
    """Embed, and return the answer.

    Raises:
        AioRpcError: the embedder refused a call, or cannot be reached.
        ServiceError: it refused an input.
    """
    stub = EmbedderServiceStub(channel)
    texts = [number for number, one in enumerate(asked.inputs) if isinstance(one, str)]
    images = [number for number, one in enumerate(asked.inputs) if isinstance(one, bytes)]
    vectors: dict[int, Vector] = {}
    model = ""
    calls: tuple[tuple[list[int], Any, Any], ...] = (
        (texts, stub.EmbedTexts, pb.EmbedTextsRequest(texts=[str(asked.inputs[number]) for number in texts])),
        (
            images,
            stub.EmbedImages,
            pb.EmbedImagesRequest(images=[pb.ImageInput(content=_bytes(asked.inputs[n])) for n in images]),
        ),
    )
    for numbers, method, request in calls:
        if not numbers:
            continue
        response = await method(request, metadata=metadata, timeout=timeout)
        if response.errors:
            error = response.errors[0]
            number = numbers[error.index]
            # An embedder that is newer than this process may have reasons that are unknown here.
            reason = error.reason if error.reason in errors_pb2.ErrorReason.values() else _UNKNOWN
            raise ServiceError(
                reason,
                f"input {number}: {error.message}",
                field=f"input[{number}]",
                retry_after=1.0 if reason == errors_pb2.OVERLOADED else None,
            )
        rows = unpack(response.features)
        vectors |= dict(zip(numbers, rows, strict=True))
        model = response.features.model_fingerprint
    return await asyncio.to_thread(_response, [vectors[n] for n in range(len(asked.inputs))], asked, model)


def spelled(field: str) -> str:
    """Return the path in the request for one in the embedder's: there are inputs alone."""
    return field if field.startswith("input") else "input"


def _response(vectors: Sequence[Vector], asked: Asked, model: str) -> Response:
    data = [
        {"object": "embedding", "index": number, "embedding": _written(vector, asked.as_base64)}
        for number, vector in enumerate(vectors)
    ]
    # Tokens are not counted here: nobody is billed by them.
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return JSONResponse({"object": "list", "data": data, "model": model, "usage": usage})


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _written(vector: Vector, as_base64: bool) -> str | list[float]:
    little = vector.astype("<f4")
    return base64.b64encode(little.tobytes()).decode() if as_base64 else [float(value) for value in little]
