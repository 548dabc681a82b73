"""Images of items that lie on the web: few at once, each once for all who wait, failures remembered."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from cachetools import LRUCache, TTLCache

from service_runtime.logging import get_logger
from service_runtime.web_images import FetchError, Fetching, FetchProblem

_FAILED_SECONDS = 60.0
_REMEMBERED = 10_000
# Images that wait for their turn; with more, visitors would wait longer than they do.
_WAITING = 64


class TooManyFetchesError(Exception):
    """As many images are being fetched and waited for as there may be."""


def is_on_the_web(location: str) -> bool:
    """Return True for the location of an image that is fetched rather than opened."""
    return location.startswith(("http://", "https://"))


class WebImages:
    """Images that `fetching` allows, of at most `max_bytes`, `at_once` at the same time. For one event loop.

    Threads of its own fetch them: a name that is not resolved holds its thread, and nothing else.
    """

    def __init__(self, fetching: Fetching, *, max_bytes: int, at_once: int) -> None:
        self._fetching = fetching
        self._max_bytes = max_bytes
        self._most = at_once + _WAITING
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="fetch")
        self._running: dict[str, asyncio.Future[bytes | FetchError]] = {}
        self._failed: TTLCache[str, bool] = TTLCache(_REMEMBERED, _FAILED_SECONDS)
        self._refused_hosts: LRUCache[str, bool] = LRUCache(_REMEMBERED)

    async def fetch(self, url: str) -> bytes | None:
        """Return an image's bytes; None where they cannot be had, which holds for a minute.

        Raises:
            TooManyFetchesError: too many others are waited for.
        """
        if url in self._failed:
            return None
        running = self._running.get(url)
        if running is None:
            if len(self._running) >= self._most:
                raise TooManyFetchesError
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, url)
            self._running[url] = running
            running.add_done_callback(lambda done: self._finish(url, done))
        # A visitor who leaves does not take the image from those who wait for it too.
        fetched = await asyncio.shield(running)
        return None if isinstance(fetched, FetchError) else fetched

    def close(self) -> None:
        """Begin nothing more. What is being fetched ends within its own time."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, url: str) -> bytes | FetchError:
        try:
            return self._fetching.fetch(url, self._max_bytes)
        except FetchError as error:
            return error

    def _finish(self, url: str, done: asyncio.Future[bytes | FetchError]) -> None:
        del self._running[url]
        if done.cancelled() or not isinstance(error := done.result(), FetchError):
            return
        self._failed[url] = True
        if error.problem is FetchProblem.NOT_ALLOWED:
            # Once for each host, and the host alone: the rest of an address may be a secret.
            host = url.partition("://")[2].partition("/")[0].rpartition("@")[2][:200]
            if host not in self._refused_hosts:
                self._refused_hosts[host] = True
                get_logger().warning("images of a host are not fetched", host=host, setting="allow_hosts")
