"""One call as data: what is sent where and how its answer is read. Both clients only carry it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

from google.protobuf.message import Message

from cir.channel import MAX_MESSAGE_BYTES
from cir.errors import InvalidArgument

Answer = TypeVar("Answer", covariant=True)
Entry = TypeVar("Entry", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A unary call. `timeout` None takes the client's own."""

    method: str
    request: Message
    response: type[Message]
    read: Callable[[Any], Answer]
    timeout: float | None = None

    def encode(self) -> bytes:
        """The request on the wire. Raises `InvalidArgument` for one that no server would take."""
        size = self.request.ByteSize()
        if size > MAX_MESSAGE_BYTES:
            raise InvalidArgument(
                f"the request has {size} bytes, a message at most {MAX_MESSAGE_BYTES}; "
                "send smaller pictures or fewer items",
                reason="OUT_OF_RANGE",
            )
        return self.request.SerializeToString()

    def decode(self, content: bytes) -> Answer:
        """The answer, read."""
        return self.read(self.response.FromString(content))

    def next_page(self, token: str) -> Self:
        """The same call for the page that `token` names."""
        request: Any = type(self.request)()
        request.CopyFrom(self.request)
        request.page_token = token
        return replace(self, request=request)


@dataclass(frozen=True, slots=True)
class Page(Generic[Entry]):
    """Part of a long list; `next_page_token` is empty on the last page."""

    entries: Sequence[Entry]
    next_page_token: str = ""
