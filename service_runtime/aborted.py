"""Aborted calls leave nothing behind.

gRPC keeps the error that aborts a call for as long as the call's context lives, and the frames of that error
hold the context: a circle, in which a message and all that was made of it would wait for the garbage
collector's full pass, which may be minutes away.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio


def forget_aborted(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler of streamed messages that answers as `handler` does; its errors hold no frames."""
    answers = {"response_serializer": handler.response_serializer}
    if handler.stream_unary is not None:
        return grpc.stream_unary_rpc_method_handler(_coroutine(handler.stream_unary), **answers)
    serve: Any = handler.stream_stream
    wrap = _generator if inspect.isasyncgenfunction(serve) else _coroutine
    return grpc.stream_stream_rpc_method_handler(wrap(serve), **answers)


def _coroutine(serve: Any) -> Any:
    async def call(requests: Any, context: Any) -> Any:
        try:
            return await serve(requests, context)
        except grpc.aio.AbortError as error:
            del requests, context
            raise _bare(error) from None

    return call


def _generator(serve: Any) -> Any:
    async def call(requests: Any, context: Any) -> AsyncIterator[Any]:
        try:
            # gRPC's iterator keeps the last message, and itself alive, until it is closed.
            async with aclosing(aiter(requests)) as received, aclosing(serve(received, context)) as answers:
                async for answer in answers:
                    yield answer
        except grpc.aio.AbortError as error:
            del requests, context, received, answers
            raise _bare(error) from None

    return call


def _bare(error: grpc.aio.AbortError) -> grpc.aio.AbortError:
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
