"""A run of the indexer for a command. Imports what only the [indexer] extra brings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cir.failure import Failure
from indexer.errors import IndexingError
from indexer.open_source import open_source
from indexer.options import IndexingOptions
from indexer.progress import progress_for
from indexer.report import IndexReport, reasons_text
from indexer.run import index
from vector_store.errors import StoreError
from vector_store.open_store import open_store


@dataclass(frozen=True, slots=True)
class Outcome:
    """A published version: a line about it for people, and what was left out."""

    text: str
    indexed: int
    rejected: int
    reasons: str
    rejects_path: Path | None


def run_index(
    *,
    catalog: str,
    path: Path,
    root: Path | None,
    text_fields: tuple[str, ...],
    image_base: str,
    store_url: str,
    store_api_key: str,
    embedder: str,
    options: Mapping[str, object],
    quiet: bool,
) -> Outcome:
    """Index and publish. Raises `Failure` with the one line to show."""

    async def run() -> IndexReport:
        store = open_store(store_url, api_key=store_api_key)
        try:
            source = open_source(path, root=root, image_base=image_base, text_fields=text_fields)
            return await index(
                source,
                catalog,
                store,
                embedder,
                IndexingOptions.model_validate(dict(options)),
                progress_for(silent=quiet),
            )
        finally:
            await store.close()

    try:
        report = asyncio.run(run())
    except (IndexingError, StoreError, ValueError) as error:
        raise Failure(str(error)) from error
    rejected = f", {report.rejected} rejected" if report.rejected else ""
    return Outcome(
        text=f"{report.catalog}: version {report.version} published with {report.indexed} of {report.read} "
        f"items{rejected}, {report.seconds:.1f} s, {report.images_per_second:.1f} images/s",
        indexed=report.indexed,
        rejected=report.rejected,
        reasons=reasons_text(report.reject_reasons),
        rejects_path=report.rejects_path,
    )
