"""The server over stdio, as a model's program starts it, against a running service with catalog "shop"."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

SERVER, IMAGES = os.environ["CIR_TEST_SERVER"], os.environ["CIR_TEST_IMAGES"]


def served(use: Callable[[ClientSession], Awaitable[None]], *arguments: str) -> None:
    """Run `use` with a session of a server that is started with these arguments."""

    async def session() -> None:
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "cir_mcp", "--server", SERVER, *arguments],
            env=dict(os.environ),
        )
        async with stdio_client(command) as (read, write), ClientSession(read, write) as found:
            await found.initialize()
            await use(found)

    asyncio.run(asyncio.wait_for(session(), 60))


async def call(session: ClientSession, tool: str, **arguments: Any) -> Any:
    """Return what a tool answers, or the words of its refusal."""
    answer = await session.call_tool(tool, arguments)
    if answer.is_error:
        return answer.content[0].text
    structured: dict[str, Any] = answer.structured_content or json.loads(answer.content[0].text)
    return structured.get("result", structured)


def test_a_model_sees_the_tools_and_uses_them() -> None:
    async def use(session: ClientSession) -> None:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == {"search", "catalogs", "item"}
        for tool in tools.values():
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
        assert "what should be different" in (tools["search"].description or "")
        assert set(tools["search"].input_schema["required"]) == {"catalog"}
        [shop] = [found for found in await call(session, "catalogs") if found["name"] == "shop"]
        # Other tests write items of their own.
        assert shop["items"] >= 15
        assert shop["fields"]["price"] == "integer"
        first = (await call(session, "search", catalog="shop", text="a red dress"))[0]
        assert first["id"] == "red-dress"
        assert first["payload"] == {"colour": "red", "kind": "dress", "price": 20}
        blue = await call(
            session, "search", catalog="shop", text="in blue", image_path=f"{IMAGES}/red-dress.jpg",
            where={"price": {"lt": 45}}, max_results=3,
        )  # fmt: skip
        assert len(blue) == 3
        assert all(found["payload"]["price"] < 45 for found in blue)
        near = await call(session, "search", catalog="shop", item="red-dress", max_results=2)
        assert [found["id"] for found in near] != ["red-dress"]
        one = await call(session, "item", catalog="shop", item="red-hat")
        assert (one["id"], one["payload"]["kind"]) == ("red-hat", "hat")

    served(use, "--images", IMAGES)


def test_refusals_are_words(tmp_path: Path) -> None:
    outside = tmp_path / "private.jpg"
    outside.write_bytes(b"private")

    async def use(session: ClientSession) -> None:
        for path in (
            str(outside),
            f"{IMAGES}/../{outside}",
            "red-dress.jpg",
            f"{IMAGES}/none.jpg",
            "/etc/passwd",
        ):
            words = await call(session, "search", catalog="shop", image_path=path)
            assert "is no image file below" in words, path
        assert "nothing" in await call(session, "search", catalog="nothing", text="x")
        assert "no-such-item" in await call(session, "item", catalog="shop", item="no-such-item")
        assert "size" in await call(session, "search", catalog="shop", text="x", where={"size": 3})
        assert "1 to 50" in await call(session, "search", catalog="shop", text="x", max_results=1000)
        assert "no_images" not in await call(session, "catalogs")

    served(use, "--images", IMAGES)


def test_image_files_are_read_only_where_it_is_said() -> None:
    async def use(session: ClientSession) -> None:
        words = await call(session, "search", catalog="shop", image_path=f"{IMAGES}/red-dress.jpg")
        assert "started without --images" in words

    served(use)


@pytest.mark.parametrize(
    ("arguments", "word"), [(["--images", "photos"], "absolute path"), (["--server", "http://x"], "http")]
)
def test_arguments_that_are_none_end_it(arguments: list[str], word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cir_mcp", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert word in done.stderr
