"""Pages over a search client that answers from memory, and what their tests do with them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from cir.errors import CirError, NotFound
from cir.filters import Filter, MatchAny
from cir.models import (
    Catalog,
    Contribution,
    Explanation,
    FacetCount,
    Item,
    Items,
    ModelInfo,
    Result,
    ResultExplanation,
    SearchAnswer,
    SearchInfo,
    Timings,
    TurnExplanation,
    Version,
)
from service_runtime.web_images import Fetching
from web_demo.app import Pages
from web_demo.backend import SearchBackend
from web_demo.benchmark_queries import BenchmarkQueries, BenchmarkQuery
from web_demo.media import Thumbnails, Uploads
from web_demo.settings import DemoSettings
from web_demo.web_images import WebImages

HOSTILE = "<script>alert(1)</script>\"'&‮ 👗" + "x" * 500


class Search:
    """Answers like the service; keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[dict[str, Any]] = []
        self.counted: list[tuple[list[str], Filter | None]] = []
        self.error: CirError | None = None
        self.published = True
        self.catalog_calls = 0
        self.schema = {"colour": "keyword"}
        self.written: dict[str, str] = {}
        self.payload: dict[str, Any] = {"colour": "red", "caption": HOSTILE}
        self.turn = TurnExplanation("composed", contribution=Contribution(0.1, 0.3, 0.25, False))
        self.reference: Item | None = None
        self.why: ResultExplanation | None = None
        self.named = "sum"
        self.deep = 0
        self.nothing = False
        self.payloads: dict[str, dict[str, Any]] = {}
        self.model: ModelInfo | None = None
        self.own: dict[str, str] = {}
        self.others: dict[str, tuple[int, int]] = {}
        self.folders: tuple[str, ...] = (str(folder),)

    async def catalogs(self) -> list[Catalog]:
        if self.error:
            raise self.error
        version = Version("v1", "published", 40, datetime.now(UTC), "f" * 8, 4, self.schema, {}, self.folders)
        self.catalog_calls += 1
        if not self.published:
            return [Catalog("empty", None)]
        others = [
            Catalog(
                name, replace(version, created=version.created + timedelta(hours=hours), item_count=items)
            )
            for name, (hours, items) in self.others.items()
        ]
        return [Catalog("shop", version), Catalog("empty", None), Catalog("other", version), *others]

    async def info(self) -> SearchInfo:
        weighted = ("sum", "slerp")
        return SearchInfo({}, self.model, ("image", *weighted), "sum", {}, {}, "1", weighted, self.own)

    async def facets(
        self, catalog: str, fields: list[str], *, limit: int = 0, where: Filter | None = None
    ) -> dict[str, list[FacetCount]]:
        self.counted.append((fields, where))
        return {name: [FacetCount("red", 3 if where else 30), FacetCount("blue", 10)] for name in fields}

    async def item(self, catalog: str, item_id: str) -> Item:
        if item_id == "missing":
            raise NotFound("no such item")
        image = self.written.get(item_id, str(self.folder / f"{item_id}.png"))
        return Item(item_id, self.payloads.get(item_id, self.payload), image, None)

    async def items(self, catalog: str, ids: list[str]) -> Items:
        if self.others.get(catalog, (0, 1))[1] == 0:
            return Items((), tuple(ids))
        there = [
            name for name in ids if "." not in name and "/" not in name and name not in ("missing", "gone")
        ]
        return Items(tuple([await self.item(catalog, name) for name in there]), ())

    async def search(self, catalog: str, **options: Any) -> SearchAnswer:
        self.asked.append({"catalog": catalog, **options})
        if self.error:
            raise self.error
        first = 1 if not options.get("page_token") else 4
        if self.nothing:
            return SearchAnswer(
                (), "", Explanation((self.turn,), "sum", "v1", "f", True), Timings(*[None] * 6)
            )
        if self.deep and options.get("turns"):
            size = options["page_size"]
            first = int(options.get("page_token") or 1) if size > 3 else first
            results = tuple(
                Result(
                    f"i{rank - self.deep}", 1 / rank, rank, {}, str(self.folder / f"i{rank - self.deep}.png")
                )
                for rank in range(first, first + size)
            )
            explained = Explanation((self.turn,), "sum", "v1", "f", True)
            return SearchAnswer(results, str(first + size), explained, Timings(*[None] * 6))
        results = tuple(
            Result(
                f"i{rank}",
                1 / rank,
                rank,
                self.payloads.get(f"i{rank}", self.payload),
                self.written.get(f"i{rank}", str(self.folder / f"i{rank}.png")),
                None,
                self.why,
            )
            for rank in range(first, first + 3)
        )
        explained = Explanation(
            tuple(self.turn for _ in options.get("turns", ())),
            options.get("combiner") or self.named,
            "v1",
            "f",
            True,
            reference=self.reference,
        )
        return SearchAnswer(results, "next" if first == 1 else "", explained, Timings(*[None] * 6))


def demo_client(settings: DemoSettings, search: Search, tmp_path: Path) -> TestClient:
    uploads = Uploads(
        tmp_path / "up", max_pixels=10**6, max_files=9, max_total_bytes=10**6, lifetime_seconds=60
    )
    thumbnails = Thumbnails(tmp_path / "th", max_bytes=10**6, max_pixels=10**6, max_files=9)
    reference = str(tmp_path / "i9.png")
    group = tuple(str(tmp_path / f"{name}.png") for name in ("i9", "i2", "gone"))
    asked = BenchmarkQuery("in red", frozenset({group[1]}), group)
    others = [
        (
            str(tmp_path / f"{name}.png"),
            BenchmarkQuery(text, frozenset({str(tmp_path / "i5.png")} if text == "far" else ()), ()),
        )
        for name, text in (("i9", "longer"), ("gone", "in blue"), ("i9", "shorter"), ("i9", "far"))
    ]
    known = BenchmarkQueries([others[0], (reference, asked), *others[1:]])
    backend = SearchBackend(search, uploads, known, page_size=3, first_catalog=settings.catalog)  # type: ignore[arg-type]  # the methods that it uses
    images = WebImages(settings.fetching, max_bytes=10**6, at_once=settings.fetches)
    pages = Pages(settings, backend, uploads, thumbnails, images)
    return TestClient(pages.application(), follow_redirects=False)


def no_web_images() -> WebImages:
    return WebImages(Fetching(), max_bytes=1, at_once=1)


def shipped_model() -> ModelInfo:
    return ModelInfo("f" * 8, "cir-small", "shipped", 4, 64, "target_pad", 1.25, "cpu", "float32", 1.0)


def only(field: str, *values: str) -> Filter:
    return Filter(must=[MatchAny(field, list(values))])


def press(client: TestClient, page: str, name: str, value: str, **fields: str) -> str:
    """Press a button that the page has; the address that it leads to."""
    assert re.search(rf'name="{name}"\s+value="{re.escape(value)}"', page), (name, value)
    carried = re.search(r'name="q" value="([^"]*)"', page)
    assert carried
    answer = client.post("/go", data={"q": unescape(carried[1]), name: unescape(value), **fields})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].removeprefix(".")


def file(content: bytes) -> dict[str, Any]:
    return {"picture": ("a.png", content, "image/png")}


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), "blue").save(out, "PNG")
    return out.getvalue()
