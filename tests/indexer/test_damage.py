"""Damaged ledgers, parts and previous versions: nothing of them becomes an item of the next version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer import FolderSource, IndexingOptions, index
from indexer.errors import CarryFailed, LedgerError, PartsError
from indexer.ledger import Ledger, LedgerEntry
from indexer.parts import PART_VERSION, PartFacts, open_part, seal_part
from tests.indexer.fake_embedder import FakeEmbedder
from tests.indexer.helpers import fill, stored
from vector_store import open_store
from vector_store.errors import StoreDamagedError

FACTS = PartFacts(1, 1, "shop", "source", 30, 30, 0, "", 1 << 20)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed part with features."""
    folder = tmp_path_factory.mktemp("part")
    ledger = Ledger.open(folder / "work.sqlite", catalog="shop", store="parts")
    rows = [(f"c{row}", np.full(64, row, np.float32)) for row in range(30)]
    ledger.keep_features("f", rows)
    ledger.put(PART_VERSION, [LedgerEntry(c, c, "p", "/x", 1, 2, "written", "new") for c, _ in rows])
    seal_part(ledger, folder / "part.sqlite", FACTS)
    # The working file goes on as it was.
    assert ledger.noted("sealed") is None
    ledger.close()
    return folder / "part.sqlite"


@settings(max_examples=100, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
@example(place=0.09375, bits=128)
def test_a_part_with_a_flipped_byte_is_refused(part: Path, place: float, bits: int) -> None:
    content = part.read_bytes()
    damaged = bytearray(content)
    damaged[int(place * len(content))] ^= bits
    part.write_bytes(damaged)
    try:
        with pytest.raises(PartsError, match="run its partition again"):
            open_part(part)
    finally:
        part.write_bytes(content)
    ledger, facts = open_part(part)
    assert facts == FACTS
    ledger.close()


def test_a_part_without_its_digest_or_with_more_behind_it_is_refused(part: Path) -> None:
    content = part.read_bytes()
    digest = 17 + 32
    try:
        for other in (content[:-digest], content[:-1], content + b"\0", content[:-digest] + bytes(digest)):
            part.write_bytes(other)
            with pytest.raises(PartsError, match="checksum"):
                open_part(part)
    finally:
        part.write_bytes(content)


def test_kept_features_that_were_altered_are_not_taken(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l.sqlite", catalog="c", store="s")
    features = np.arange(4, dtype=np.float32)
    ledger.keep_features("f", [("x", features)])
    packed = ledger._query("SELECT vector FROM features")[0][0]
    np.testing.assert_array_equal(ledger.kept_features("f", "x"), features)
    others = [packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :] for at in range(len(packed))]
    for other in others:
        ledger._connection.execute("UPDATE features SET vector = ?", (other,))
        found = ledger.kept_features("f", "x")
        assert found is None, other
    # As older programs kept them.
    ledger._connection.execute("UPDATE features SET vector = ?", (features.tobytes(),))
    np.testing.assert_array_equal(ledger.kept_features("f", "x"), features)
    ledger.close()


@pytest.mark.service
@pytest.mark.parametrize("keep_features", [False, True])
@pytest.mark.parametrize("opened_before", [False, True])
async def test_a_damaged_version_is_built_again_from_the_source(
    tmp_path: Path, embedder: FakeEmbedder, address: str, keep_features: bool, opened_before: bool
) -> None:
    ids = fill(tmp_path / "photos", 12)
    options = IndexingOptions(keep_features=keep_features, ledger_path=tmp_path / "ledger.sqlite")

    async with open_store(f"edge://{tmp_path / 'store'}") as store:
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
        before = await stored(store)
    path = next((tmp_path / "store/catalogs/shop/versions/v0001/shard").rglob("vectors/chunk_0.mmap"))
    content = path.read_bytes()
    path.write_bytes(content[:9] + bytes([content[9] ^ 64]) + content[10:])
    async with open_store(f"edge://{tmp_path / 'store'}") as store:
        if opened_before:
            with pytest.raises(StoreDamagedError, match="chunk_0"):
                await stored(store)
        else:
            # Something else has changed, so that the version is read.
            ids += fill(tmp_path / "photos", 1, start=12)
        report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
        assert report.published
        after = await stored(store)
    assert sorted(after) == sorted(ids)
    for item_id, item in before.items():
        np.testing.assert_array_equal(after[item_id].features, item.features)


@pytest.mark.service
async def test_what_only_a_damaged_version_has_is_not_lost_in_silence(tmp_path: Path, address: str) -> None:
    fill(tmp_path / "photos", 4)
    options = IndexingOptions(ledger_path=tmp_path / "ledger.sqlite")
    async with open_store(f"edge://{tmp_path / 'store'}") as store:
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
    next((tmp_path / "photos").glob("0001.jpg")).unlink()
    fill(tmp_path / "photos", 1, start=9)
    next((tmp_path / "store/catalogs/shop/versions/v0001/shard").rglob("segment.json")).unlink()
    async with open_store(f"edge://{tmp_path / 'store'}") as store:
        with pytest.raises(CarryFailed, match=r"0001\.jpg.*damaged.*segment\.json is missing"):
            await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
        synced = IndexingOptions(ledger_path=tmp_path / "ledger.sqlite", sync=True, allow_delete=True)
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, synced)
        assert len(await stored(store)) == 4


def test_a_damaged_ledger_is_told(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    Ledger.open(path, catalog="c", store="s").close()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.open(path, catalog="c", store="s")
