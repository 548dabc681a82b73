"""A connection whose other end is gone without a word, as when its machine loses power."""

from __future__ import annotations

import asyncio


class Relay:
    """Passes bytes on to a port. What is frozen stays open, and nothing goes through any more."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._flows: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, onward_writer]
        for source, target in ((reader, onward_writer), (onward_reader, writer)):
            self._flows.append(asyncio.create_task(self._flow(source, target)))

    async def _flow(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while content := await source.read(65536):
            target.write(content)

    async def freeze(self) -> None:
        for flow in self._flows:
            flow.cancel()
        await asyncio.wait(self._flows)
        self._flows.clear()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._flows:
            await self.freeze()
        for writer in self._writers:
            writer.close()
