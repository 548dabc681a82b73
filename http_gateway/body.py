"""The body of a request: received whole, in bounded size and time, of a kind that is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from starlette.requests import ClientDisconnect, Request

from http_gateway.codec import read_json
from http_gateway.errors import RefusedError, refusal
from http_gateway.multipart import read_form
from http_gateway.settings import GatewaySettings

JSON = "application/json"
FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it came. `content_type` is the whole header, whose parameters say how a form is divided."""

    content: bytes = b""
    content_type: str = JSON

    @property
    def kind(self) -> str:
        """The type without its parameters."""
        return self.content_type.partition(";")[0].strip().lower()

    def read(self) -> tuple[dict[str, Any], Mapping[str, bytes]]:
        """Return the JSON of the request, and files by the path of the field that each is.

        Raises:
            BadJsonError: it is none.
        """
        if self.kind != FORM:
            return read_json(self.content), {}
        form = read_form(self.content, self.content_type)
        return read_json(form.request), form.files


async def receive(request: Request, settings: GatewaySettings, *, forms: bool) -> Body:
    """Return the body of a request, of which `forms` are taken or not.

    Raises:
        RefusedError: it is of another kind, too large, or does not come.
    """
    body = Body(await content_of(request, settings), request.headers.get("content-type", ""))
    kinds = (JSON, FORM) if forms else (JSON,)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _refused("the body is compressed; send it as it is", 415)
    if body.content and body.kind not in kinds:
        raise _refused(f"the body's Content-Type is {' or '.join(kinds)}", 415)
    return body if body.content else Body()


async def content_of(request: Request, settings: GatewaySettings) -> bytes:
    """Return the bytes of a body.

    Raises:
        RefusedError: it is too large, or does not come.
    """
    most = settings.max_body_bytes
    too_large = f"the body has more than {most} bytes"
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > most:
        raise _refused(too_large, 413)
    received = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for piece in request.stream():
                received += piece
                if len(received) > most:
                    raise _refused(too_large, 413)
    except TimeoutError as error:
        late = f"the body did not come within {settings.body_seconds:g} s"
        raise RefusedError(refusal(grpc.StatusCode.DEADLINE_EXCEEDED, late, status=408)) from error
    except ClientDisconnect as error:
        raise RefusedError(refusal(grpc.StatusCode.CANCELLED, "the client is gone")) from error
    return bytes(received)


def _refused(message: str, status: int) -> RefusedError:
    return RefusedError(refusal(grpc.StatusCode.INVALID_ARGUMENT, message, status=status))
