"""Request ids, and one line of the log for each request: never what was sent."""

from __future__ import annotations

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_runtime.http_server import HEALTH
from service_runtime.logging import REQUEST_ID, get_logger, request_id_of

# Others are texts of the caller's.
_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class AccessLog:
    """An ASGI application around another, which finds the request's id in `scope["state"]`.

    There the other says as `call` which call of the contract the request means.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        started, status = time.perf_counter(), 0
        request_id = request_id_of(Headers(scope=scope).get(REQUEST_ID, ""))
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, call="")

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._application(scope, receive, answer)
        except Exception as error:
            # Answered as INTERNAL by now; uvicorn would log it without the id.
            get_logger().error("request failed", request_id=request_id, exc_info=error)
        finally:
            if not (scope["path"] == HEALTH and status == 200):
                get_logger().info(
                    "request",
                    request_id=request_id,
                    verb=scope["method"] if scope["method"] in _VERBS else "",
                    call=state["call"],
                    status=status,
                    elapsed_ms=round((time.perf_counter() - started) * 1000, 2),
                )
