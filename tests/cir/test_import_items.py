"""Both clients create, fill and search catalogs; imports survive breaks, and go on in another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import cir
from cir.import_stream import next_answer
from tests.search_service.either_engine import Service, running_service
from tests.search_service.neighbours import UNREADABLE, features_of

pytestmark = pytest.mark.service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service("local", tmp_path) as running:
        yield running


def items(count: int) -> list[cir.ItemWrite]:
    """Items, of which every third is given as features."""
    found = []
    for n in range(count):
        given: dict[str, Any] = (
            {"features": features_of(b"picture %d" % n)} if n % 3 == 2 else {"content": b"picture %d" % n}
        )
        found.append(cir.ItemWrite(f"item-{n:03d}", payload={"price": n}, image=f"{n}.jpg", **given))
    return found


def import_all(client: cir.Client, tmp_path: Path) -> cir.Imported:
    created = client.create_catalog(
        "new", schema={"price": "integer"}, index=cir.IndexSettings(hnsw_m=8, quantization="int8")
    )
    assert created.published is not None
    assert created.published.schema == {"price": "integer"}
    with pytest.raises(cir.AlreadyExists):
        client.create_catalog("new")
    with pytest.raises(cir.InvalidArgument, match="keyword"):
        client.create_catalog("other", schema={"price": "number"})
    version = client.create_version("new")
    assert version.state == "building"
    wanted = items(50)
    wanted[7] = cir.ItemWrite("item-007", content=tmp_path / "missing.jpg")
    wanted[8] = cir.ItemWrite("item-008", content=UNREADABLE)
    seen: list[int] = []

    def note(progress: cir.Imported) -> None:
        seen.append(progress.done)

    done = client.import_items("new", version.name, wanted, batch_size=6, on_progress=note)
    assert seen == sorted(seen)
    assert seen[-1] == 50
    assert client.finish_version("new", version.name, expected_items=48).state == "ready"
    client.publish("new", version.name)
    client.add_fields("new", {"season": "keyword"})
    found = client.batch_search([cir.query("new", item="item-001"), cir.query("none", text="x")])
    answer, failed = found
    assert isinstance(answer, cir.SearchAnswer)
    assert len(answer) == 10
    assert isinstance(failed, cir.ItemError)
    assert (failed.index, failed.reason) == (1, "CATALOG_NOT_FOUND")
    dropped = client.create_version("new")
    client.abort_version("new", dropped.name)
    return done


async def test_a_blocking_client_makes_a_catalog(service: Service, tmp_path: Path) -> None:
    with cir.Client(service.address) as client:
        done = await asyncio.to_thread(import_all, client, tmp_path)
        assert (done.done, done.written, done.rejected) == (50, 48, 2)
        assert [(error.index, error.item_id) for error in done.errors] == [(7, "item-007"), (8, "item-008")]
        assert "missing.jpg" in done.errors[0].message
        assert done.errors[1].reason == "IMAGE_UNREADABLE"


async def test_a_program_that_is_started_again_goes_on(service: Service) -> None:
    async with cir.AsyncClient(service.address) as client:
        await client.create_catalog("new")
        version = (await client.create_version("new")).name

        def broken() -> Iterator[cir.ItemWrite]:
            yield from items(20)
            raise RuntimeError("out of items")

        with pytest.raises(RuntimeError, match="out of items"):
            await client.import_items("new", version, broken(), token="t", batch_size=4)
        embedded = service.embedder.images
        done = await client.import_items("new", version, items(40), token="t", batch_size=4)
        assert (done.done, done.written, done.errors) == (40, 40, ())
        assert service.embedder.images < embedded + 40
        # The token of other items.
        for others in (items(60)[3:], items(5)):
            with pytest.raises(cir.InvalidArgument, match="token of its own"):
                await client.import_items("new", version, others, token="t")
        assert (await client.finish_version("new", version)).item_count == 40
        with pytest.raises(cir.FailedPrecondition):
            await client.import_items("new", version, items(1))


async def test_a_refused_token_leaves_the_version_free(service: Service) -> None:
    def refused_and_finished(client: cir.Client) -> cir.CatalogVersion:
        client.create_catalog("new")
        version = client.create_version("new").name
        client.import_items("new", version, items(20), token="t", batch_size=4)
        for others in (items(60)[3:], items(5)):
            with pytest.raises(cir.InvalidArgument, match="token of its own"):
                client.import_items("new", version, others, token="t")
        return client.finish_version("new", version)

    with cir.Client(service.address) as client:
        assert (await asyncio.to_thread(refused_and_finished, client)).item_count == 20


async def test_items_that_failed_before_the_next_answer_is_waited_for_are_told() -> None:
    class Silent:
        async def read(self) -> bytes:
            never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            return await never

    async def fail() -> None:
        raise RuntimeError("out of items")

    sending = asyncio.ensure_future(fail())
    await asyncio.wait([sending])
    with pytest.raises(RuntimeError, match="out of items"):
        await asyncio.wait_for(next_answer(Silent(), sending), 10)


async def test_streams_that_break_are_opened_again(service: Service) -> None:
    async with cir.AsyncClient(service.address) as client:
        await client.create_catalog("new")
        version = (await client.create_version("new")).name
        breaks = 0

        def note(progress: cir.Imported) -> None:
            nonlocal breaks
            # As of an embedder that is away for a moment: the service ends the stream.
            if breaks < 3 and progress.done % 8 == 4:
                breaks += 1
                raise cir.Unavailable("broken here") from None

        first = client.import_items("new", version, items(40), token="t", batch_size=4, on_progress=note)
        for attempt in range(4):
            try:
                done = await (
                    first
                    if attempt == 0
                    else client.import_items(
                        "new", version, items(40), token="t", batch_size=4, on_progress=note
                    )
                )
                break
            except cir.Unavailable:
                continue
        assert breaks == 3
        assert (done.done, done.written) == (40, 40)
        assert (await client.finish_version("new", version)).item_count == 40


async def test_what_stands_in_the_way_is_waited_for(service: Service) -> None:
    async with cir.AsyncClient(service.address) as client:
        await client.create_catalog("new")
        version = (await client.create_version("new")).name
        writer = await service.store.resume_version("new", version)
        with pytest.raises(cir.Aborted):
            await client.import_items("new", version, items(3), retry_seconds=0.5)
        waiting = asyncio.ensure_future(client.import_items("new", version, items(3)))
        await asyncio.sleep(0.3)
        await writer.close()
        assert (await waiting).done == 3


async def test_items_that_no_service_takes_fail_alone_at_their_place(service: Service) -> None:
    async with cir.AsyncClient(service.address) as client:
        await client.create_catalog("new")
        version = (await client.create_version("new")).name
        payloads: list[dict[str, object]] = [{"sizes": list(range(9_000))} for _ in range(10)]
        payloads[3] = {"text": "a" * 2_500_000}
        payloads[9] = {"sizes": list(range(40_000))}
        wanted = [
            cir.ItemWrite("\ud800" if n == 5 else f"{n}", b"picture %d" % n, payload=payload)
            for n, payload in enumerate(payloads)
        ]
        wanted[0] = cir.ItemWrite("0", b"x" * (64 << 20))
        done = await client.import_items("new", version, wanted)
        assert (done.done, done.written, done.rejected) == (10, 6, 4)
        assert [(error.index, error.item_id, error.reason) for error in done.errors] == [
            (0, "0", "OUT_OF_RANGE"),
            (3, "3", "OUT_OF_RANGE"),
            (5, "\ud800", "FIELD_INVALID"),
            (9, "9", "OUT_OF_RANGE"),
        ]
        with pytest.raises(cir.InvalidArgument, match="retry_seconds is nan"):
            await client.import_items("new", version, wanted, retry_seconds=float("nan"))


async def test_a_service_that_is_not_there(service: Service) -> None:
    with pytest.raises(cir.Unavailable):
        await asyncio.to_thread(
            cir.Client("localhost:1").import_items, "new", "v0002", items(3), retry_seconds=0.3
        )
