"""Runs over Parquet files that hold their images, and runs with chosen columns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cir.fields import FieldType
from cir_cli.main import run
from indexer import IndexingOptions, ManifestSource, Partition, SourceError, embed_part, finish, index
from indexer.sources.folder import FolderSource
from indexer.sources.tar import TarSource
from tests.indexer.fake_embedder import FakeEmbedder, features_of
from tests.indexer.helpers import fill, jpeg, stored
from vector_store import VectorStore, open_store

pytestmark = pytest.mark.service
FAST = IndexingOptions(batch_items=4, write_items=8)


def write(path: Path, numbers: Sequence[int]) -> ManifestSource:
    """Write a data set as Hugging Face does: an image, its label, and boxes that no field can hold."""
    images = [{"bytes": jpeg(number), "path": f"{number}.jpg"} for number in numbers]
    table = pa.table({"image": images, "label": list(numbers), "boxes": [[[number]] for number in numbers]})
    pq.write_table(table.replace_schema_metadata({"huggingface": '{"info": {}}'}), path, row_group_size=5)
    return ManifestSource(path)


def sent(embedder: FakeEmbedder) -> int:
    """Images embedded since this was asked last."""
    count = sum(len(batch.images) for batch in embedder.batches)
    embedder.batches.clear()
    return count


async def test_images_in_parquet_become_a_catalog_and_are_not_embedded_again(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    path = tmp_path / "train.parquet"
    report = await index(write(path, range(12)), "shop", store, address, FAST)
    assert (report.read, report.indexed, report.rejected, sent(embedder)) == (12, 12, 0, 12)
    assert report.schema == {"label": FieldType.INTEGER}
    assert "column 'boxes' is left out" in report.notes[0]
    items = await stored(store)
    for number in range(12):
        item = items[f"{number}.jpg"]
        assert (item.payload, item.image) == ({"label": number}, f"{path}!/row/{number + 1}")
        assert item.features is not None
        np.testing.assert_allclose(item.features, features_of(jpeg(number)), rtol=1e-4, atol=1e-4)
    assert not (await index(ManifestSource(path), "shop", store, address, FAST)).published
    # In another order, with one image more: the bytes tell which is which.
    report = await index(write(path, [12, *reversed(range(12))]), "shop", store, address, FAST)
    assert (report.indexed, report.unchanged, sent(embedder)) == (1, 12, 1)
    assert (await stored(store))["0.jpg"].image == f"{path}!/row/13"


async def test_images_in_parquet_are_embedded_in_partitions(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    source = write(tmp_path / "train.parquet", range(12))
    options = replace(FAST, columns=("label",))
    for number in (1, 2):
        await embed_part(source, "shop", address, Partition(number, 2), tmp_path / "parts", options)
    report = await finish(source, "shop", store, tmp_path / "parts", options)
    assert (report.read, report.indexed, report.notes, sent(embedder)) == (12, 12, (), 12)
    assert {item.payload["label"] for item in (await stored(store)).values()} == set(range(12))


async def test_bad_cells_are_rejects_in_the_file_of_them(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path, 3)
    table = pa.table({"image": ["0001.jpg", "0002.jpg"], "until": pa.array([0, 2**50], pa.timestamp("s"))})
    pq.write_table(table, tmp_path / "m.parquet")
    report = await index(ManifestSource(tmp_path / "m.parquet"), "shop", store, address, FAST)
    assert (report.indexed, dict(report.reject_reasons)) == (1, {"PAYLOAD_INVALID": 1})
    assert report.rejects_path is not None
    (line,) = report.rejects_path.read_text().splitlines()
    reject = json.loads(line)
    assert (reject["id"], reject["image"]) == ("0002.jpg", "0002.jpg")
    assert reject["message"].startswith("row 2: column 'until' holds the moment ")


async def test_columns_are_chosen_on_the_command_line(tmp_path: Path, address: str) -> None:
    fill(tmp_path, 3)
    (tmp_path / "m.csv").write_text("image,a,b,c\n0001.jpg,1,2,3\n0002.jpg,4,5,6\n")

    async def index_command(path: Path, *flags: str) -> int:
        store = f"edge://{tmp_path / 'store'}"
        command = ["index", "shop", str(path), "--store", store, "--embedder", address, "--quiet", *flags]
        return await asyncio.to_thread(run, command)

    assert await index_command(tmp_path / "m.csv", "--columns", "a", "--columns", "c") == 0
    async with open_store(f"edge://{tmp_path / 'store'}") as store:
        assert (await stored(store))["0001.jpg"].payload == {"a": 1, "c": 3}
    assert await index_command(tmp_path / "m.csv", "--columns", "d") == 1
    assert await index_command(tmp_path, "--columns", "folder") == 1


def test_a_folder_has_no_columns_and_a_shard_tells_its_own(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    with pytest.raises(SourceError, match="columns are chosen of manifests and shards only"):
        FolderSource(tmp_path).survey(["folder"])
    with pytest.raises(SourceError):
        TarSource(str(tmp_path / "none.tar")).survey(["a"])
