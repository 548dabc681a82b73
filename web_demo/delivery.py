"""Delivery of the pages: headers, static files by their content, compression, a path in front."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from hashlib import blake2b
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src 'self' blob:",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), camera=(self)",
}
# A browser asks again before it shows a page anew, and may keep one to go back to as it was left.
_ASK_AGAIN = "private, no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"
STATIC = Path(__file__).parent / "static"


def static_versions(folder: Path = STATIC) -> Mapping[str, str]:
    """Return the address of each static file, which changes with the file's content."""
    return {
        path.name: f"static/{path.name}?v={blake2b(path.read_bytes(), digest_size=6).hexdigest()}"
        for path in sorted(folder.iterdir())
    }


class VersionedFiles(StaticFiles):
    """Static files that are kept for ever under the address that names their content."""

    def __init__(self, folder: Path = STATIC) -> None:
        super().__init__(directory=folder)
        self._versions = static_versions(folder)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Serve a file, to be kept where the address has the version of today."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        version = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("v", [""])[0]
        today = self._versions.get(Path(full_path).name, "").rpartition("=")[2]
        response.headers["Cache-Control"] = _FOR_EVER if version and version == today else _ASK_AGAIN
        return response


class PathPrefix:
    """An ASGI application below a path, whether or not the proxy in front takes the path away."""

    def __init__(self, application: ASGIApp, prefix: str) -> None:
        self._application = application
        self._prefix = prefix.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Addresses in pages are relative, so nothing else knows of the prefix."""
        path = scope.get("path", "")
        if scope["type"] == "http" and self._prefix and path.startswith(f"{self._prefix}/"):
            # In place: metrics ask it afterwards which function answered.
            scope.update(path=path.removeprefix(self._prefix), raw_path=None)
        await self._application(scope, receive, send)


class Headers:
    """An ASGI application whose answers allow our own files only: no guessed types, no framing."""

    def __init__(self, app: ASGIApp) -> None:
        self._application = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", _ASK_AGAIN)
            await send(message)

        await self._application(scope, receive, send_with_headers)


def middleware() -> list[Middleware]:
    """Return what every request goes through, from the outside in."""
    return [
        # Of a page of 50 kB, level 9 takes more than twice as long and saves 2 %.
        Middleware(GZipMiddleware, minimum_size=600, compresslevel=5),
        Middleware(Headers),
    ]


def is_same_origin(request: Request, origins: Collection[str] = ()) -> bool:
    """Return False when a browser sent this from another site; other clients send neither header.

    `origins` are those of this site beyond its Host, which a proxy in front may have changed.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None or origin.lower() in origins:
        return True
    return origin.partition("://")[2] == request.headers.get("host", "")
