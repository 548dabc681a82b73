"""gRPC-Web: unary calls of the contract as browsers send them, passed on byte for byte.

A body is frames: a byte of flags, four of length, and a message; the last frame of an answer has the
trailers. The `-text` types are the same as base64. What comes as a stream of messages needs gRPC.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from urllib.parse import quote

from google.rpc import status_pb2
from starlette.responses import Response

from http_gateway.codec import BadJsonError

KIND = "application/grpc-web"
#: Headers that browsers send with a call, and that their pages read of an answer.
SENT = ("grpc-timeout", "x-grpc-web", "x-user-agent")
READ = ("grpc-message", "grpc-status", "grpc-status-details-bin")
_FRAME = 5
_TRAILERS = 0x80
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def read_call(content: bytes, kind: str) -> bytes:
    """Return the message of a call's body.

    Raises:
        BadJsonError: it is not one message.
    """
    try:
        frame = b64decode(content, validate=True) if _is_text(kind) else content
    except Base64Error as error:
        raise BadJsonError("the body is no base64") from error
    if len(frame) < _FRAME or frame[0] != 0 or int.from_bytes(frame[1:_FRAME]) != len(frame) - _FRAME:
        raise BadJsonError("the body is not one message, uncompressed, in a frame")
    return frame[_FRAME:]


def read_timeout(text: str) -> float | None:
    """Return the seconds of a `grpc-timeout`; None without one.

    Raises:
        BadJsonError: it is none.
    """
    found = _TIMEOUT.fullmatch(text)
    if text and found is None:
        raise BadJsonError("grpc-timeout is no time, such as 10S")
    return int(found[1]) * _SECONDS[found[2]] if found else None


def answer(message: bytes, kind: str) -> Response:
    """Return the answer of a call."""
    return _framed([_frame(0, message), _frame(_TRAILERS, b"grpc-status: 0\r\n")], kind)


def refuse(status: status_pb2.Status, kind: str) -> Response:
    """Return a refusal."""
    details = b64encode(status.SerializeToString()).decode().rstrip("=")
    lines = (
        f"grpc-status: {status.code}",
        f"grpc-message: {quote(status.message, safe=' ')}",
        f"grpc-status-details-bin: {details}",
    )
    return _framed([_frame(_TRAILERS, "".join(f"{line}\r\n" for line in lines).encode())], kind)


def _is_text(kind: str) -> bool:
    return kind.startswith(f"{KIND}-text")


def _frame(flags: int, content: bytes) -> bytes:
    return bytes([flags]) + len(content).to_bytes(_FRAME - 1) + content


def _framed(frames: Iterable[bytes], kind: str) -> Response:
    content = b"".join(frames)
    return Response(b64encode(content) if _is_text(kind) else content, media_type=kind)
