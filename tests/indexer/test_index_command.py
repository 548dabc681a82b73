"""`cir index` with the flags that say how a version is kept, from the command line to the stored version."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cir_cli.main import run
from tests.indexer.helpers import jpeg
from vector_store import VectorStore, open_store
from vector_store.types import IndexOptions, Placement, Quantization
from vector_store.versions import QUANTIZE_ABOVE_BYTES

pytestmark = pytest.mark.service


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    return folder


async def index(images: Path, address: str, *flags: str) -> int:
    """`cir index shop` into the store beside the images; returns its exit code."""
    store = f"edge://{images.parent / 'store'}"
    command = ["index", "shop", str(images), "--store", store, "--embedder", address, "--quiet", *flags]
    return await asyncio.to_thread(run, command)


async def stored_options(images: Path) -> list[IndexOptions]:
    async with open_store(f"edge://{images.parent / 'store'}") as store:
        return [info.spec.index for info in await store.list_versions("shop")]


async def test_the_defaults_are_those_of_the_store(images: Path, address: str) -> None:
    assert await index(images, address) == 0
    assert await stored_options(images) == [IndexOptions()]


async def test_flags_are_kept_with_the_version_and_another_one_makes_a_new_version(
    images: Path, address: str
) -> None:
    flags = [
        *("--quantization", "product", "--hnsw-m", "24", "--hnsw-ef-construct", "200", "--vectors-on-disk"),
        *("--payload-on-disk", "--shards", "4", "--replicas", "2", "--write-consistency", "1"),
    ]
    wanted = IndexOptions(
        hnsw_m=24,
        hnsw_ef_construct=200,
        quantization=Quantization.PRODUCT,
        vectors_on_disk=True,
        payload_on_disk=True,
        placement=Placement(shards=4, replicas=2, write_consistency=1),
    )
    assert await index(images, address, *flags) == 0
    assert await index(images, address, *flags) == 0
    assert await stored_options(images) == [wanted]
    assert await index(images, address, "--quantization", "none") == 0
    assert await stored_options(images) == [wanted, IndexOptions(quantization=Quantization.NONE)]


async def test_the_size_above_which_auto_compresses_reaches_the_store(
    images: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def spy(url: str, **options: Any) -> VectorStore:
        given.append(options["quantize_above_bytes"])
        return open_store(url, **options)

    monkeypatch.setattr("cir_cli.run_index.open_store", spy)
    assert await index(images, address) == 0
    assert await index(images, address, "--quantize-above-bytes", "100") == 0
    assert given == [QUANTIZE_ABOVE_BYTES, 100]


@pytest.mark.parametrize(
    ("flags", "word"),
    [(("--hnsw-m", "1"), "hnsw-m"), (("--quantization", "int4"), "int4"), (("--shards", "-1"), "shards")],
)
async def test_values_that_cannot_be_are_refused_before_anything_happens(
    images: Path, address: str, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], word: str
) -> None:
    assert await index(images, address, *flags) == 2
    assert word in capsys.readouterr().err
    assert not (images.parent / "store").exists()


async def test_an_authority_that_cannot_be_read_is_told(
    images: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--store", "qdrants://localhost:1", "--store-ca-file", str(images / "none.pem")]
    assert await index(images, address, *flags) == 1
    assert "authorities of the store's TLS" in capsys.readouterr().err


async def test_a_stray_value_is_told_with_the_flag_that_mends_its_column(
    tmp_path: Path, images: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "products.csv"
    manifest.write_text("image,price\nimages/0.jpg,1.5\nimages/1.jpg,2.5\nimages/2.jpg,cheap\nno.jpg,4.5\n")
    command = ["index", "shop", str(manifest), "--store", f"edge://{tmp_path / 'store'}"]
    command += ["--embedder", address, "--dry-run"]
    assert await asyncio.to_thread(run, command) == 3
    assert "--schema price=float" in capsys.readouterr().err
    assert await asyncio.to_thread(run, [*command, "--json"]) == 3
    told = capsys.readouterr()
    assert "--schema price=float" in told.out
    assert "1 item was rejected" in told.err
    assert "None" not in told.err
