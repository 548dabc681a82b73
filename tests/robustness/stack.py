"""Embedder, combiner and search as real processes over loopback, with a model small enough for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from benchmarks._processes import Running, running, small_model
from cir.embedder.v1 import embedder_pb2
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from cir.fields import FieldType
from vector_store import open_store
from vector_store.types import PointBatch, VersionSpec

SCHEMA = {"colour": FieldType.KEYWORD, "price": FieldType.INTEGER, "weight": FieldType.FLOAT}
ITEMS = 30


@dataclass(frozen=True, slots=True)
class Stack:
    """The three processes."""

    embedder: Running
    combiner: Running
    search: Running

    def by_name(self) -> dict[str, Running]:
        """Each process under the name of its service."""
        return {"embedder": self.embedder, "combiner": self.combiner, "search": self.search}


def embedder_environment(folder: Path) -> dict[str, str]:
    """Settings of an embedder with the small model."""
    return small_model(folder) | {
        "DEVICE": "cpu",
        "DTYPE": "float32",
        "THREADS": "1",
        "LOG_LEVEL": "warning",
        "IMAGE_CACHE_ITEMS": "64",
    }


def search_environment(folder: Path, embedder: str, combiner: str) -> dict[str, str]:
    """Settings of a search service over the store below `folder`."""
    return {
        "EMBEDDER": embedder,
        "COMBINER": combiner,
        "STORE": f"edge://{folder.resolve() / 'store'}",
        "LOG_LEVEL": "warning",
    }


@contextmanager
def running_embedder(folder: Path, port: int = 0, **settings: str) -> Iterator[Running]:
    """One embedder with the small model."""
    environment = embedder_environment(folder) | settings
    with running("embedder_service", environment, log=folder / "embedder.log", port=port) as started:
        yield started


@contextmanager
def running_combiner(folder: Path, port: int = 0, **settings: str) -> Iterator[Running]:
    """One combiner service without checkpoints."""
    environment = {"LOG_LEVEL": "warning"} | settings
    with running("combiner_service", environment, log=folder / "combiner.log", port=port) as started:
        yield started


@contextmanager
def running_search(folder: Path, embedder: str, combiner: str, **settings: str) -> Iterator[Running]:
    """One search service over the store below `folder`."""
    environment = search_environment(folder, embedder, combiner) | settings
    with running("search_service", environment, log=folder / "search.log") as started:
        yield started


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """All three; the store holds the catalogs `shop` and `untouched` with the same items."""
    with ExitStack() as cleanup:
        embedder = cleanup.enter_context(running_embedder(folder))
        combiner = cleanup.enter_context(running_combiner(folder))
        fill_store(folder, fingerprint_of(embedder.address))
        search = cleanup.enter_context(running_search(folder, embedder.address, combiner.address))
        yield Stack(embedder, combiner, search)


def fingerprint_of(address: str) -> str:
    """The fingerprint of the model that an embedder holds."""
    with grpc.insecure_channel(address) as channel:
        info = EmbedderServiceStub(channel).GetEmbedderInfo(embedder_pb2.GetEmbedderInfoRequest(), timeout=10)
    return str(info.model.fingerprint)


def fill_store(folder: Path, fingerprint: str) -> None:
    """Publish the catalogs `shop` and `untouched` below `folder`."""
    asyncio.run(_fill(f"edge://{folder.resolve() / 'store'}", fingerprint))


async def _fill(url: str, fingerprint: str) -> None:
    store = open_store(url)
    features = np.random.default_rng(5).normal(size=(ITEMS, 32)).astype(np.float32)
    for catalog in ("shop", "untouched"):
        writer = await store.create_version(catalog, VersionSpec(32, fingerprint, SCHEMA, {}))
        await writer.upsert(
            PointBatch(
                ids=[f"item-{n}" for n in range(ITEMS)],
                features=features,
                payloads=[
                    {"colour": ("red", "green", "blue")[n % 3], "price": n, "weight": n / 4}
                    for n in range(ITEMS)
                ],
                images=[f"{n}.jpg" for n in range(ITEMS)],
            )
        )
        info = await writer.finish()
        await store.publish(catalog, info.version)
    await store.close()
