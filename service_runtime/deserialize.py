"""Requests are parsed inside the call, so that malformed bytes are refused as the caller's fault.

gRPC parses before it calls a handler, and answers UNKNOWN when that fails. A call that is refused for
another reason (overload, no key) is also refused before its message is parsed.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError

Parse = Callable[[bytes], Any]
Context = grpc.aio.ServicerContext[Any, Any]


def deserialize_inside(
    handler: grpc.RpcMethodHandler[Any, Any], *, abort: bool = False
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the same handler, taking bytes; malformed ones raise `ServiceError` (MALFORMED).

    With `abort` they end the call instead, for handlers that no interceptor wraps.
    """
    parse = handler.request_deserializer
    if parse is None:
        return handler
    kinds: dict[str, Any] = {
        "request_deserializer": None,
        "response_serializer": handler.response_serializer,
    }
    unary = _unary_aborting if abort else _unary
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(unary(handler.unary_unary, parse), **kinds)
    if handler.unary_stream is not None and not inspect.isasyncgenfunction(handler.unary_stream):
        return grpc.unary_stream_rpc_method_handler(unary(handler.unary_stream, parse), **kinds)
    if handler.stream_stream is not None and inspect.isasyncgenfunction(handler.stream_stream):
        stream = _stream_aborting if abort else _stream
        return grpc.stream_stream_rpc_method_handler(stream(handler.stream_stream, parse), **kinds)
    return handler


class _Parsed:
    """Messages of a stream, parsed as they are read."""

    def __init__(self, messages: AsyncIterator[bytes], parse: Parse) -> None:
        self._messages = aiter(messages)
        self._parse = parse

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return _parsed(await anext(self._messages), self._parse)


def _unary(inner: Callable[..., Any], parse: Parse) -> Callable[[bytes, Context], Any]:
    async def serve(content: bytes, context: Context) -> Any:
        return await inner(_parsed(content, parse), context)

    return serve


def _unary_aborting(inner: Callable[..., Any], parse: Parse) -> Callable[[bytes, Context], Any]:
    async def serve(content: bytes, context: Context) -> Any:
        try:
            request = _parsed(content, parse)
        except ServiceError as error:
            await context.abort_with_status(error.status())
        return await inner(request, context)

    return serve


def _stream(
    inner: Callable[..., Any], parse: Parse
) -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[Any]]:
    async def serve(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        # Closed with the call, or its clean-up would wait for garbage collection.
        async with aclosing(inner(_Parsed(messages, parse), context)) as answers:
            async for answer in answers:
                yield answer

    return serve


def _stream_aborting(
    inner: Callable[..., Any], parse: Parse
) -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[Any]]:
    async def serve(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        try:
            async with aclosing(inner(_Parsed(messages, parse), context)) as answers:
                async for answer in answers:
                    yield answer
        except ServiceError as error:
            await context.abort_with_status(error.status())

    return serve


def _parsed(content: bytes, parse: Parse) -> Any:
    try:
        return parse(content)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ServiceError(
            pb.MALFORMED,
            f"the request's {len(content)} bytes are not the message that this method takes ({error}); "
            "build it with stubs of this contract",
        ) from error
