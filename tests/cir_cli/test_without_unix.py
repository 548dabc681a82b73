"""`search`, `items`, `catalogs` and `index` where fcntl, resource, pwd, grp and their like are not there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cir.search.v1 import catalog_pb2
from cir_cli.local import up_file
from tests.cir import messages
from tests.cir.fake_search import FakeSearch
from tests.indexer.fake_embedder import FakeEmbedder, serve
from tests.indexer.helpers import jpeg

pytestmark = [pytest.mark.service, pytest.mark.slow]


def cir(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.cir_cli.without_unix", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_calls_are_made(search_service: FakeSearch, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(jpeg(1))
    search_service.answers.update(
        Search=messages.search_response(messages.item("a")),
        GetCatalog=messages.catalog(),
        ListCatalogs=catalog_pb2.ListCatalogsResponse(catalogs=[messages.catalog()]),
        ListItems=catalog_pb2.ListItemsResponse(items=[messages.item("a")]),
    )
    sheet = tmp_path / "sheet.png"
    for words, key in (
        (("search", "shop", "--image", str(image), "--sheet", str(sheet)), "results"),
        (("items", "shop"), "items"),
        (("catalogs",), "catalogs"),
    ):
        done = cir(*words, "--server", search_service.address, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[key]
    assert sheet.is_file()


async def test_a_folder_is_indexed_and_a_second_run_finds_nothing_to_do(tmp_path: Path) -> None:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.jpg").write_bytes(jpeg(number))
    async with serve(FakeEmbedder()) as address:
        up = up_file.UpFile(os.getpid(), "", address, "", f"edge://{tmp_path / 'store'}", "", "")
        with up_file.claim(data):
            up_file.write(data, up)
            command = ("index", "shop", str(images), "--data", str(data), "--json")
            first = await asyncio.to_thread(cir, *command)
            assert first.returncode == 0, first.stderr
            second = await asyncio.to_thread(cir, *command)
        assert second.returncode == 0, second.stderr
    report = json.loads(first.stdout)
    assert (report["published"], report["indexed"]) == (True, 3)
    assert json.loads(second.stdout)["unchanged"] == 3
