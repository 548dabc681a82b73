"""Real photos through real services: indexed with `cir index`, searched with `cir.Client`."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import cir
from cir.limits import DEFAULT_COMBINER
from cir_cli.local.plan import UpOptions
from cir_cli.local.processes import running
from cir_cli.local.readiness import resolve_ports

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clothing"
SAMPLE = 96

pytestmark = [
    pytest.mark.skipif(
        not (PHOTOS / "images.csv").is_file(), reason="the clothing photos are not on this machine"
    ),
    pytest.mark.service,
    pytest.mark.torch,
    pytest.mark.slow,
]

Rows = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Every 26th photo, by its item id."""
    with (PHOTOS / "images.csv").open(newline="") as file:
        photos = [
            {**row, "image": f"images/{row['image']}.jpg"}
            for row in csv.DictReader(file)
            if (PHOTOS / "images" / f"{row['image']}.jpg").is_file()
        ]
    return {row["image"]: row for row in photos[:: len(photos) // SAMPLE][:SAMPLE]}


@pytest.fixture(scope="module")
def client(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cir.Client]:
    """A catalog "clothing" behind running services with a real architecture."""
    folder = tmp_path_factory.mktemp("photos")
    manifest = folder / "photos.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows.values())
    options = UpOptions(folder / "data", "ViT-B-32", "random:0", "127.0.0.1", *resolve_ports(0, None, None))
    with running(options, start_timeout=240, on_serving=lambda spec: None):
        command = [
            *(sys.executable, "-m", "cir_cli", "index", "clothing", str(manifest)),
            *("--root", str(PHOTOS), "--data", str(options.data)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        with cir.Client(f"127.0.0.1:{options.port}", timeout=60) as client:
            yield client


def damaged(path: Path) -> bytes:
    """The photo without 10 % at its edges, as JPEG of quality 60."""
    with Image.open(path) as photo:
        dx, dy = round(photo.width * 0.05), round(photo.height * 0.05)
        picture = photo.convert("RGB").crop((dx, dy, photo.width - dx, photo.height - dy))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=60)
    return out.getvalue()


@pytest.mark.timeout(600)
def test_every_photo_is_its_own_nearest_neighbour(client: cir.Client, rows: Rows) -> None:
    for item in rows:
        best = client.search("clothing", image=PHOTOS / item, page_size=1).results[0]
        assert best.id == item
        assert best.score == pytest.approx(1, abs=1e-3)


def test_most_damaged_photos_find_their_original(client: cir.Client, rows: Rows) -> None:
    chosen = list(rows)[::4]
    found = sum(
        item in {r.id for r in client.search("clothing", image=damaged(PHOTOS / item)).results}
        for item in chosen
    )
    assert found > len(chosen) / 2


def test_a_label_filter_returns_that_label_only(client: cir.Client, rows: Rows) -> None:
    for label in {row["label"] for row in rows.values()}:
        answer = client.search("clothing", text="anything", where={"label": label}, page_size=100)
        assert {r.id for r in answer.results} == {i for i, row in rows.items() if row["label"] == label}
        assert {r.payload["label"] for r in answer.results} == {label}


def test_a_composed_query_lies_between_picture_and_text(client: cir.Client, rows: Rows) -> None:
    item = next(iter(rows))
    answer = client.search("clothing", item=item, text="in red with long sleeves", explain_turns=True)
    assert len(answer.results) == 10
    assert item not in {result.id for result in answer.results}
    assert answer.explanation.combiner == DEFAULT_COMBINER
    gave = answer.explanation.turns[0].contribution
    assert gave is not None
    assert 0 < gave.text_share < 1
    again = client.search("clothing", image=PHOTOS / item, text="in red with long sleeves", exclude=[item])
    assert [r.id for r in again.results[:5]] == [r.id for r in answer.results[:5]]


def test_a_damaged_file_is_refused_and_the_next_query_works(client: cir.Client, rows: Rows) -> None:
    whole = (PHOTOS / next(iter(rows))).read_bytes()
    cases = {
        "IMAGE_TRUNCATED": whole[: len(whole) // 2],
        "IMAGE_UNREADABLE": b"this is no picture",
    }
    for reason, content in cases.items():
        with pytest.raises(cir.InvalidArgument) as refused:
            client.search("clothing", turns=[cir.Turn(text="red"), cir.Turn(image=content)])
        assert (refused.value.reason, refused.value.field) == (reason, "turns[1].reference.image")
    assert len(client.search("clothing", image=whole).results) == 10
