"""Damage to an embedded store: found wherever it is, never believed, and without cost to what is sound."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.vector_store.samples import SCHEMA, batch, build, features, numbered, spec
from vector_store.base import CatalogVersion
from vector_store.edge import EdgeOptions
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.files import EdgeLayout, copy_shard
from vector_store.edge.noted import VersionFiles
from vector_store.edge.store import EdgeStore
from vector_store.edge.sums import BLOCK, Coverage, FileDamageError, check_files, make_sums
from vector_store.errors import StoreDamagedError
from vector_store.filters import Filter, MatchAny

pytestmark = pytest.mark.service

COUNT, DIMENSION = 1_500, 256
# Nothing of large files is compared when a version is opened; all of it right afterwards.
AFTERWARDS = EdgeOptions(verify_open_s=0.0, verify_bytes_per_s=1 << 40)
NEVER = EdgeOptions(verify_open_s=0.0, verify_bytes_per_s=0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a version of large files: full and compressed vectors, a graph, payloads."""
    root = tmp_path_factory.mktemp("sound")
    payloads = [{"colour": f"c{row % 7}", "size": row, "title": f"dress {row}"} for row in range(COUNT)]
    schema = {name: SCHEMA[name] for name in ("colour", "size", "title")}
    vectors = features(COUNT, dimension=DIMENSION)

    async def make() -> None:
        async with EdgeStore(root, quantize_above_bytes=0) as store:
            chosen = spec(schema, dimension=DIMENSION, hnsw_m=8, hnsw_ef_construct=32)
            await build(store, "shop", batch([f"i{row}" for row in range(COUNT)], vectors, payloads), chosen)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("edge.config", "edge.writer"):
            patch.setattr(f"vector_store.{module}.INDEXING_THRESHOLD_KB", 200)
        asyncio.run(make())
    return root


def shard_of(root: Path, version: str = "v0001") -> Path:
    return root / "catalogs" / "shop" / "versions" / version / "shard"


def copied(root: Path, target: Path) -> Path:
    """A copy of a store in which no file is shared."""
    shutil.rmtree(target, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vector_store.edge.files.SHARED", frozenset())
        copy_shard(root, target)
    return target


def flip(path: Path, at: int, bits: int = 255) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bits]))


async def answers(pinned: CatalogVersion) -> dict[str, Any]:
    """What a version says of vectors, payloads and counts."""
    vectors = features(5, dimension=DIMENSION, seed=1)
    found: dict[str, Any] = {
        "nearest": [[(s.item.id, s.score) for s in await pinned.query(v, limit=20)] for v in vectors],
        "facets": [await pinned.facet(field, limit=100) for field in ("colour", "size")],
        "counts": [await pinned.count(Filter(must=(MatchAny("colour", (f"c{c}",)),))) for c in range(7)],
    }
    cursor = ""
    items: list[Any] = []
    while True:
        page, cursor = await pinned.scroll(limit=500, after=cursor, with_features=True)
        for item in page:
            assert item.features is not None
            items.append((item.id, item.payload, item.image, item.norm, item.features.tobytes()))
        if not cursor:
            return found | {"items": items}


async def compared(store: EdgeStore) -> None:
    """Wait until what the opening left was compared."""
    for opened in list(store._versions._open.values()):
        if opened.checking is not None:
            await asyncio.to_thread(opened.checking._thread.join)
    await store._versions.settle()


LARGE = ("matrix.dat", "quantized.data", "links_compressed.bin", "page_0.dat", "open-1", "open-2")


@st.composite
def places(draw: st.DrawFn) -> tuple[float, float, int, bool]:
    """A file and a place in it as shares, the bits to flip, and whether a large file is meant."""
    return (
        draw(st.floats(0, 1, exclude_max=True)),
        draw(st.floats(0, 1, exclude_max=True)),
        draw(st.integers(1, 255)),
        draw(st.booleans()),
    )


def chosen(shard: Path, place: tuple[float, float, int, bool]) -> tuple[Path, int]:
    paths = sorted(path for path in shard.rglob("*") if path.is_file() and path.stat().st_size)
    if place[3]:
        paths = [path for path in paths if path.stat().st_size > BLOCK]
    path = paths[int(place[0] * len(paths))]
    return path, int(place[1] * path.stat().st_size)


def test_the_version_has_large_files_of_every_kind(sound: Path) -> None:
    large = {
        path.name for path in shard_of(sound).rglob("*") if path.is_file() and path.stat().st_size > BLOCK
    }
    assert {"matrix.dat", "page_0.dat", "open-1"} <= large
    assert {"quantized.data", "links_compressed.bin"} <= {path.name for path in shard_of(sound).rglob("*")}


@settings(max_examples=60, deadline=None)
@given(place=places())
def test_every_flip_is_found(sound: Path, place: tuple[float, float, int, bool]) -> None:
    files = VersionFiles(EdgeCatalogs(EdgeLayout(sound)), "shop", "v0001")
    path, at = chosen(shard_of(sound), place)
    flip(path, at, place[2])
    try:
        with pytest.raises(StoreDamagedError, match=f"{path.name} was altered.*cir catalogs rollback"):
            files.check(files.noted())
    finally:
        flip(path, at, place[2])
        files.unmark()
    files.check(files.noted())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(place=(0.0, 0.0, 255, True))
@given(place=places())
def test_what_was_opened_and_compared_answers_as_before_or_not_at_all(
    sound: Path, tmp_path: Path, place: tuple[float, float, int, bool]
) -> None:
    root = copied(sound, tmp_path / "store")

    async def run() -> None:
        async with EdgeStore(root) as store, store.open_version("shop") as pinned:
            expected = await answers(pinned)
        path, at = chosen(shard_of(root), place)
        flip(path, at, place[2])
        for options in (EdgeOptions(), AFTERWARDS):
            found = None
            async with EdgeStore(root, options=options) as store:
                with suppress(StoreDamagedError):
                    async with store.open_version("shop") as pinned:
                        await compared(store)
                        found = await answers(pinned)
            assert found in (None, expected)
            # And the flip shows, wherever it is.
            assert found is None

    asyncio.run(run())


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def swap_blocks(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[BLOCK : 2 * BLOCK] + content[:BLOCK] + content[2 * BLOCK :])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "bytes, not"),
        (lengthen, "bytes, not"),
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "was altered"),
    ],
)
@pytest.mark.parametrize(
    "name", ["matrix.dat", "payload_storage/page_0.dat", "wal/open-1", "id_tracker.versions"]
)
def test_cut_missing_and_emptied_files_are_found(
    sound: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    shard = shard_of(copied(sound, tmp_path / "store"))
    sums = make_sums(shard)
    path = max(shard.rglob(name), key=lambda path: path.stat().st_blocks)
    damage(path)
    with pytest.raises(FileDamageError, match=message):
        list(check_files(shard, sums))


def test_exchanged_files_and_blocks_are_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1" * BLOCK + b"2" * BLOCK + b"3")
    (tmp_path / "b").write_bytes(b"2" * BLOCK + b"1" * BLOCK + b"3")
    sums = make_sums(tmp_path)
    assert sum(check_files(tmp_path, sums, start=0.7)) == 4 * BLOCK + 2
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    for start in (0.0, 0.5, 1.0):
        with pytest.raises(FileDamageError, match="was altered"):
            list(check_files(tmp_path, sums, start=start))


def test_openings_without_time_cover_different_blocks(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(range(256)) * (8 * BLOCK // 256))
    sums = make_sums(tmp_path)
    flip(tmp_path / "large", 5 * BLOCK + 7)

    def found(start: float) -> bool:
        pieces = check_files(tmp_path, sums, start=start)
        try:
            next(pieces)
            next(pieces)
        except FileDamageError:
            return True
        return False

    assert [found(number / 8) for number in range(8)] == [number == 5 for number in range(8)]


async def test_damage_takes_a_version_out_of_service_until_it_is_restored(
    sound: Path, tmp_path: Path
) -> None:
    root = copied(sound, tmp_path / "store")
    matrix = next(shard_of(root).rglob("matrix.dat"))
    flip(matrix, BLOCK + 5, 1)
    told: list[tuple[str, bool]] = []
    options = EdgeOptions(
        verify_open_s=0.0, verify_bytes_per_s=1 << 40, on_damage=lambda *what: told.append(what)
    )
    async with EdgeStore(root, options=options) as store:
        async with store.open_version("shop") as pinned:
            await compared(store)
            # The reader that had it open is refused as well, and so is the next.
            with pytest.raises(StoreDamagedError, match="matrix"):
                await pinned.upsert(batch(["new"], features(1, dimension=DIMENSION)))
            with pytest.raises(StoreDamagedError, match=r"matrix\.dat was altered \(in bytes 1048576 to"):
                await pinned.count()
        await store._versions.settle()
        for _ in range(2):
            with pytest.raises(StoreDamagedError, match="matrix"):
                async with store.open_version("shop"):
                    pass
        assert [info.damaged for info in await store.list_versions("shop")] == [True]
        assert (told[0], told[-1]) == (("shop", False), ("shop", True))
        flip(matrix, BLOCK + 5, 1)
        async with store.open_version("shop") as pinned:
            assert await pinned.count() == COUNT
        assert [info.damaged for info in await store.list_versions("shop")] == [False]
        assert told[-1] == ("shop", False)


async def test_what_never_changes_stays_compared_after_online_changes(sound: Path, tmp_path: Path) -> None:
    root = copied(sound, tmp_path / "store")
    catalogs = EdgeCatalogs(EdgeLayout(root))
    async with EdgeStore(root, options=NEVER) as store, store.open_version("shop") as pinned:
        assert catalogs.coverage("shop", "v0001") is Coverage.ALL
        await pinned.upsert(batch(["new"], features(1, dimension=DIMENSION)))
        assert catalogs.coverage("shop", "v0001") is Coverage.UNCHANGING
        # As a process leaves it that is killed now.
        killed = copied(root, tmp_path / "killed")
        flip(next(shard_of(root).rglob("matrix.dat")), 5)
        flip(next(shard_of(killed).rglob("matrix.dat")), 5)
    # Closing it has not made the damage what the file is to be.
    for folder in (root, killed):
        async with EdgeStore(folder) as store:
            with pytest.raises(StoreDamagedError, match="matrix"):
                async with store.open_version("shop"):
                    pass
        flip(next(shard_of(folder).rglob("matrix.dat")), 5)
        async with EdgeStore(folder) as store, store.open_version("shop") as pinned:
            assert await pinned.count() == COUNT + 1
        # Closed, it is all compared again.
        assert EdgeCatalogs(EdgeLayout(folder)).coverage("shop", "v0001") is Coverage.ALL


async def test_opening_a_changed_version_again_and_again_is_no_damage(sound: Path, tmp_path: Path) -> None:
    root = copied(sound, tmp_path / "store")
    async with EdgeStore(root) as store, store.open_version("shop") as pinned:
        await pinned.upsert(batch(numbered(900), features(900, dimension=DIMENSION, seed=3)))
        await pinned.delete(["i3", "i700", "i001"])
    for _ in range(4):
        async with EdgeStore(root) as store, store.open_version("shop") as pinned:
            assert await pinned.count() == COUNT + 100 - 3
            await pinned.query(features(1, dimension=DIMENSION)[0], limit=5)


def documents(root: Path) -> list[Path]:
    catalog = root / "catalogs" / "shop"
    return [catalog / "CURRENT", *sorted((catalog / "versions").glob("v*/version.json"))]


async def meaning(root: Path) -> Any:
    """What the documents say, or None where a call that needs them is refused."""
    async with EdgeStore(root) as store:
        try:
            async with store.open_version("shop") as pinned:
                return pinned.info, sorted(await pinned.retrieve(numbered(5)))
        except StoreDamagedError:
            return None


async def test_a_flipped_document_is_refused_or_says_the_same(tmp_path: Path) -> None:
    async with EdgeStore(tmp_path) as store:
        await build(store, "shop", batch(numbered(3)))
        await build(store, "shop", batch(numbered(5)))
    catalogs = EdgeCatalogs(EdgeLayout(tmp_path))

    messages: list[str] = []

    def said() -> Any:
        try:
            history, info = catalogs.history("shop"), catalogs.version("shop", "v0002")
            return history, info, catalogs.coverage("shop", "v0002"), catalogs.shard_name("shop", "v0002")
        except StoreDamagedError as error:
            messages.append(str(error))
            return None

    expected = said()
    for path in (tmp_path / "catalogs/shop/CURRENT", tmp_path / "catalogs/shop/versions/v0002/version.json"):
        content = path.read_bytes()
        for at in range(len(content)):
            for bits in (1, 32):
                path.write_bytes(content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :])
                assert said() in (None, expected), (path.name, at, bits)
        for length in range(len(content) - 2):
            path.write_bytes(content[:length])
            assert said() is None
        path.write_bytes(content)
    # They travel to clients, who need not know where the store lies.
    assert messages
    assert not [message for message in messages if str(tmp_path) in message]


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), Path.unlink])
async def test_a_damaged_document_costs_only_its_own_version(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with EdgeStore(tmp_path) as store:
        for _ in range(3):
            await build(store, "shop", batch(numbered(5)))
        await build(store, "other", batch(numbered(2)))
    damage(tmp_path / "catalogs/shop/versions/v0002/version.json")
    async with EdgeStore(tmp_path) as store:
        assert [info.version for info in await store.list_versions("shop")] == ["v0001", "v0003"]
        assert [catalog.catalog for catalog in await store.list_catalogs()] == ["other", "shop"]
        async with store.open_version("shop") as pinned:
            assert await pinned.count() == 5
        with pytest.raises(StoreDamagedError, match=r"v0002.*version\.json"):
            async with store.open_version("shop", "v0002"):
                pass
        with pytest.raises(StoreDamagedError, match=r"version\.json"):
            await store.publish("shop", "v0002")
    damage(tmp_path / "catalogs/shop/versions/v0003/version.json")
    async with EdgeStore(tmp_path) as store:
        with pytest.raises(StoreDamagedError, match=r"v0003.*version\.json.*index the catalog again"):
            async with store.open_version("shop"):
                pass
        assert "v0003" in (await store.check())["damaged"]
        assert [catalog.catalog for catalog in await store.list_catalogs()] == ["other", "shop"]
        await store.publish("shop", "v0001")
        await build(store, "shop", batch(numbered(4)))
        async with store.open_version("shop") as pinned:
            assert await pinned.count() == 4


async def test_after_damage_to_the_pointer_publishing_says_what_is_searched(tmp_path: Path) -> None:
    async with EdgeStore(tmp_path) as store:
        for count in (2, 3):
            await build(store, "shop", batch(numbered(count)))
        await build(store, "other", batch(numbered(2)))
    current = tmp_path / "catalogs/shop/CURRENT"
    current.write_text(current.read_text().replace('"v0002"', '"v0001"'))
    async with EdgeStore(tmp_path) as store:
        assert "CURRENT was altered" in (await store.check())["damaged"]
        assert str(tmp_path) not in (await store.check())["damaged"]
        with pytest.raises(
            StoreDamagedError, match=r"CURRENT.*cir catalogs publish shop VERSION.*v0001, v0002"
        ):
            async with store.open_version("shop"):
                pass
        with pytest.raises(StoreDamagedError, match="CURRENT"):
            await store.rollback("shop")
        assert [info.version for info in await store.list_versions("shop")] == ["v0001", "v0002"]
        found = {catalog.catalog: catalog.published for catalog in await store.list_catalogs()}
        assert found["shop"] is None
        assert found["other"] is not None
        async with store.open_version("other") as pinned:
            assert await pinned.count() == 2
        await store.publish("shop", "v0002", keep=0)
        async with store.open_version("shop") as pinned:
            assert await pinned.count() == 3
        # Nobody could tell what a rollback would have returned to.
        assert [info.version for info in await store.list_versions("shop")] == ["v0001", "v0002"]


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_text("{}"),
        lambda path: path.write_text(path.read_text().replace("segments", "segmemts")),
        lambda path: shutil.copy(path.parent.parent / "v0001" / path.name, path),
    ],
)
async def test_sums_that_are_missing_or_of_another_version_are_damage(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with EdgeStore(tmp_path) as store:
        await build(store, "shop", batch(numbered(2)))
        await build(store, "shop", batch(numbered(5)))
    damage(tmp_path / "catalogs/shop/versions/v0002/sums-shard.json")
    assert await meaning(tmp_path) is None


async def test_versions_from_before_there_were_blocks_are_opened_as_they_were(tmp_path: Path) -> None:
    async with EdgeStore(tmp_path) as store:
        await build(store, "shop", batch(numbered(5)))
    catalogs = EdgeCatalogs(EdgeLayout(tmp_path))
    folder = tmp_path / "catalogs/shop/versions/v0001"
    sums = make_sums(folder / "shard")
    older = {
        name: [file.size, *file.blocks] if file.size <= BLOCK else [file.size]
        for name, file in sums.items()
        if not name.startswith(("wal/", "edge_config"))
    }
    (folder / "sums-shard.json").unlink()
    (folder / "sums.json").write_text(json.dumps({"files": older}))
    document = json.loads((folder / "version.json").read_text())
    (folder / "version.json").write_text(
        json.dumps(
            {name: document[name] for name in ("created", "complete", "points", "spec")} | {"format": 1}
        )
    )
    current = json.loads((tmp_path / "catalogs/shop/CURRENT").read_text())
    (tmp_path / "catalogs/shop/CURRENT").write_text(json.dumps({"published": current["published"]}))
    path = next((folder / "shard").rglob("segment.json"))
    flip(path, 5)
    assert await meaning(tmp_path) is None
    flip(path, 5)
    async with EdgeStore(tmp_path) as store, store.open_version("shop") as pinned:
        assert await pinned.count() == 5
        await pinned.upsert(batch(["new"]))
        assert not (folder / "sums.json").exists()
    assert catalogs.coverage("shop", "v0001") is Coverage.ALL
    async with EdgeStore(tmp_path) as store, store.open_version("shop") as pinned:
        assert await pinned.count() == 6
