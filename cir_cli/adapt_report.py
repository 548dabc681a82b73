"""The comparison of `cir adapt` as Markdown, JSON, a chart, and contact sheets of wins and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from cir_cli.adapt_sources import SourceOfItems
from cir_cli.contact_sheet import Tile, draw_sheet, load_image, load_item_image, open_reader
from combiner_training.adapt.dataset import AdaptData
from combiner_training.adapt.measure import Example, Measured
from combiner_training.datasets.base import Query
from combiner_training.evaluation.tables import comparison_table, dialogue_table, markdown
from combiner_training.plots import plot_comparison
from service_runtime.files import replace_file, write_json, write_text
from service_runtime.image_reader import ImageReader

REPORT, DOCUMENT, CHART = "report.md", "report.json", "comparison.png"
#: Queries on each contact sheet.
EXAMPLES = 6


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run: everything measured, and what became of the checkpoint.

    `begun_with` names the checkpoint whose weights came first, "" for random ones.
    """

    source: SourceOfItems
    data: AdaptData
    measured: Measured
    verdict: str
    combiner: str
    checkpoint: Path
    begun_with: str
    handed_over: bool
    clicks: Mapping[str, int]
    cpu_seconds: Mapping[str, float]

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "catalog": self.source.items.catalog,
            "origin": self.source.origin,
            "model_fingerprint": self.source.items.model_fingerprint,
            "items": len(self.source.items.names),
            "left_out": dict(self.source.items.left_out),
            "usable": self.data.usable,
            "language": str(self.data.language),
            "columns": [asdict(one) for one in self.data.columns],
            "notes": list(self.data.notes),
            "queries": self.data.counts(),
            "clicks": dict(self.clicks),
            **self.measured.document(),
            "combiner": self.combiner,
            "checkpoint": str(self.checkpoint),
            "begun_with": self.begun_with,
            "handed_over": self.handed_over,
            "verdict": self.verdict,
            "cpu_seconds": dict(self.cpu_seconds),
        }

    def text(self) -> str:
        """For people, in Markdown."""
        items, data = self.source.items, self.data
        left = "".join(f"; {count:,} left out {why}" for why, count in items.left_out.items() if count)
        counts = ", ".join(f"{count:,} {name}" for name, count in data.counts().items())
        parts = [
            f"# {items.catalog}",
            self.verdict,
            f"{len(items.names):,} items of {self.source.origin}{left}. {data.usable:,} of them can be "
            f"references. Queries: {counts}. Phrasings: {data.language}.",
            f"The training began with {self.begun_with or 'random weights'}.",
            "## Columns",
            columns_table(data),
            *(f"Note: {note}." for note in data.notes),
            *(
                [f"Clicks: {', '.join(f'{n:,} {what}' for what, n in self.clicks.items())}."]
                if self.clicks
                else []
            ),
            "## Comparison, on combinations and phrasings that were not trained on",
            comparison_table(self.measured.comparison),
            f"R@1 of the new Combiner beside {self.measured.in_use}: {self.measured.difference.text}.",
        ]
        if self.measured.dialogues:
            parts += ["## Dialogues", dialogue_table(self.measured.dialogues)]
        return "\n\n".join(parts) + "\n"


def columns_table(data: AdaptData) -> str:
    """The decision about each column, those that are taken first."""
    order = sorted(data.columns, key=lambda one: (one.role == "left out", one.role, one.name))
    rows = [(one.name, one.role, f"{one.values:,}", f"{one.known:,}", one.reason) for one in order]
    return markdown(("column", "taken as", "values", "items", "why"), rows)


def write_report(
    folder: Path, outcome: Outcome, shown: Mapping[str, Sequence[Example]], queries: Sequence[Query]
) -> None:
    """Write everything into a folder.

    Raises:
        OSError: It cannot be written.
    """
    write_text(folder / REPORT, outcome.text())
    write_json(folder / DOCUMENT, outcome.document())
    plot_comparison(folder / CHART, outcome.measured.comparison)
    texts = {query.id: query.texts[0] for query in queries}
    reader = open_reader()
    try:
        for kind, found in shown.items():
            path = folder / f"{kind}.png"
            if not found:
                path.unlink(missing_ok=True)
                continue
            sheets = [_sheet(one, texts[one.id], outcome, reader) for one in found]
            with replace_file(path) as temporary:
                _stacked(sheets).save(temporary, format="png")
    finally:
        reader.close()


def _sheet(one: Example, text: str, outcome: Outcome, reader: ImageReader) -> Image.Image:
    def tile(name: str, *lines: str) -> Tile:
        return Tile(_image(name, outcome.source, reader), (*lines, name))

    old = outcome.measured.in_use
    return draw_sheet(
        f"“{text}”: first right answer at place {one.old_rank} by {old}, {one.new_rank} by the new one",
        (tile(one.reference, "reference"), tile(one.right, "a right answer")),
        [
            *(tile(name, f"{old}, {rank}") for rank, name in enumerate(one.old, start=1)),
            *(tile(name, f"new, {rank}") for rank, name in enumerate(one.new, start=1)),
        ],
    )


def _image(name: str, source: SourceOfItems, reader: ImageReader) -> Image.Image | None:
    place = source.images[name]
    if isinstance(place, Path):
        return load_image(place, reader)
    return load_item_image(place, source.folders, reader)


def _stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    width = max(sheet.width for sheet in sheets)
    whole = Image.new("RGB", (width, sum(sheet.height for sheet in sheets)), "#ffffff")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole
