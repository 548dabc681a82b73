"""The tools, and the program that serves them over stdio."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

import cir
from cir.channel import MAX_MESSAGE_BYTES
from cir.local_images import read_image, usable_folder

#: Results of one search.
MAX_RESULTS = 50
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class Tools:
    """Tools of a model: `client` is asked, and image files are read below `folders` alone."""

    def __init__(self, client: cir.AsyncClient, folders: Sequence[Path] = ()) -> None:
        self._client = client
        self._folders = folders

    async def search(
        self,
        catalog: str,
        text: str = "",
        image_path: str = "",
        item: str = "",
        where: dict[str, Any] | None = None,
        max_results: int = 10,
    ) -> list[dict[str, Any]]:
        """Search a catalog of images, best results first.

        Give a text alone ("a red dress"), or a reference (the path of an image file, or the id of an item)
        with or without a text that says what should be different about it ("in blue, with long sleeves").
        `where` filters by payload fields, such as {"price": {"lt": 50}, "colour": ["red", "blue"]}; the tool
        `catalogs` lists the fields.
        """
        if not 1 <= max_results <= MAX_RESULTS:
            raise ToolError(f"max_results is {max_results}; expected 1 to {MAX_RESULTS}")
        try:
            answer = await self._client.search(
                catalog,
                text=text,
                image=self._image(image_path) if image_path else None,
                item=item,
                where=where,
                page_size=max_results,
            )
        except cir.CirError as error:
            raise ToolError(str(error)) from error
        return [
            {
                "id": result.id,
                "score": round(result.score, 4),
                "image": result.image,
                "payload": _plain(result.payload),
            }
            for result in answer
        ]

    async def catalogs(self) -> list[dict[str, Any]]:
        """List the catalogs that can be searched, with the number of items and the payload fields of each."""
        try:
            found = await self._client.catalogs()
        except cir.CirError as error:
            raise ToolError(str(error)) from error
        return [
            {
                "name": catalog.name,
                "items": catalog.published.item_count,
                "fields": catalog.published.schema,
            }
            for catalog in found
            if catalog.published is not None
        ]

    async def item(self, catalog: str, item: str) -> dict[str, Any]:
        """Show one item of a catalog: where its image is, and its payload."""
        try:
            found = await self._client.item(catalog, item)
        except cir.CirError as error:
            raise ToolError(str(error)) from error
        return {"id": found.id, "image": found.image, "payload": _plain(found.payload)}

    def _image(self, path: str) -> bytes:
        if not self._folders:
            raise ToolError("image files are not read: the server was started without --images")
        content = read_image(path, self._folders, max_bytes=MAX_MESSAGE_BYTES)
        if content is None:
            folders = ", ".join(map(str, self._folders))
            raise ToolError(f"{path!r} is no image file below {folders}; give an absolute path there")
        return content


def _plain(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a payload as JSON has it."""

    def one(value: Any) -> Any:
        match value:
            case list() | tuple():
                return [one(element) for element in value]
            case datetime():
                return value.isoformat()
            case cir.GeoPoint():
                return {"lat": value.latitude, "lon": value.longitude}
        return value

    return {name: one(value) for name, value in payload.items()}


def make_server(tools: Tools) -> MCPServer[Any]:
    """Return a server of the tools, which says of each that it changes nothing."""
    server: MCPServer[Any] = MCPServer("composed-image-retrieval", version=cir.__version__)
    for tool in (tools.search, tools.catalogs, tools.item):
        server.tool(annotations=_READS)(tool)
    return server


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve over stdio until the other side closes it."""
    parser = argparse.ArgumentParser(
        prog="cir-mcp", description="MCP server of composed image retrieval, over stdio."
    )
    parser.add_argument(
        "--server", default=os.environ.get("CIR_SERVER", "127.0.0.1:50050"), help="search service, host:port"
    )
    parser.add_argument(
        "--images", action="append", default=[], metavar="FOLDER", help="a folder whose images may be read"
    )
    parser.add_argument("--tls", action="store_true", help="connect with TLS, trusting the usual authorities")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for each call")
    given = parser.parse_args(arguments)
    folders = [usable_folder(folder) for folder in given.images]
    for folder, found in zip(given.images, folders, strict=True):
        if found is None:
            parser.error(f"--images {folder}: give an absolute path below /")
    try:
        client = cir.AsyncClient(
            given.server,
            api_key=os.environ.get("CIR_API_KEY", ""),
            tls=cir.TlsFiles() if given.tls else None,
            timeout=given.timeout,
        )
    except cir.CirError as error:
        parser.error(str(error))
    make_server(Tools(client, [folder for folder in folders if folder is not None])).run("stdio")


if __name__ == "__main__":
    main()
