"""The data set that the shipped Combiner is trained on: catalogs of garments, and clothing photos.

    python -m scripts.small_clip.triplets OUT --garments FOLDER [FOLDER] --photos FOLDER [--count 8000]

Writes OUT/triplets.jsonl with links to the folders, for `--dataset triplets`: the train triplets of every
catalog of garments, the val triplets of the first, and changes of kind and colour between photos. Photos that
were kept out (scripts/small_clip/photos.py), and those whose colour is not clear, are not among them.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cir.images.decode import Decoder
from embedder_service.images.preprocess import Preprocessor
from garments.language import phrase
from garments.vocabulary import Edit
from scripts.small_clip.labels import KIND_OF_LABEL
from scripts.small_clip.photos import colour_of, is_kept_out

_SIDE = 112
_MOST_DRAWS = 50


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """Name of a photo, the kind of garment and its colour."""

    name: str
    kind: str
    colour: str


def read_labelled(folder: Path, *, kept_out: bool) -> list[LabelledPhoto]:
    """Return the photos of one side whose colour is clear."""
    preprocessor, decoder = Preprocessor(size=_SIDE), Decoder()
    found: list[LabelledPhoto] = []
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["label"] not in KIND_OF_LABEL or is_kept_out(row["image"]) is not kept_out:
                continue
            name = f"images/{row['image']}.jpg"
            if colour := colour_of(preprocessor(decoder((folder / name).read_bytes()))):
                found.append(LabelledPhoto(name, KIND_OF_LABEL[row["label"]], colour))
    return found


def photo_triplets(photos: Sequence[LabelledPhoto], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield up to `count` different changes of kind, colour or both, with every photo that is right."""
    rng = random.Random(f"photos/{seed}")  # queries, not secrets
    by_look: Mapping[tuple[str, str], list[str]] = defaultdict(list)
    for photo in photos:
        by_look[photo.kind, photo.colour].append(photo.name)
    looks = sorted(by_look)
    seen: set[tuple[str, str]] = set()
    draws = _MOST_DRAWS * count
    while len(seen) < count and draws:
        draws -= 1
        reference = rng.choice(photos)
        # By looks, not photos: rare kinds and colours come as often as others.
        kind, colour = rng.choice(looks)
        names = rng.choice((("kind",), ("colour",), ("kind", "colour")))
        kind = kind if "kind" in names else reference.kind
        colour = colour if "colour" in names else reference.colour
        before = {"kind": reference.kind, "colour": reference.colour}
        edits = [Edit(name, {"kind": kind, "colour": colour}[name]) for name in names]
        if any(before[edit.attribute] == edit.value for edit in edits) or not by_look.get((kind, colour)):
            continue
        text = phrase(edits, before, "train", rng)
        if (reference.name, text) not in seen:
            seen.add((reference.name, text))
            yield {"reference": reference.name, "text": text, "targets": by_look[kind, colour]}


def garment_rows(folder: Path, splits: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the queries of these splits, and the images of val's gallery."""
    for line in (folder / "triplets.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["split"] in splits and ("reference" in row or row["split"] == "val"):
            yield row


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--garments", type=Path, nargs="+", required=True, help="folders of cir garments make"
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of labelled clothing photos")
    parser.add_argument("--count", type=int, default=8000, help="triplets of photos")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True)
    with (options.out / "triplets.jsonl").open("w", encoding="utf-8") as file:
        for number, folder in enumerate(options.garments):
            place = f"garments-{number}"
            (options.out / place).symlink_to(folder.resolve())
            for row in garment_rows(folder, ("train", "val") if number == 0 else ("train",)):
                file.write(json.dumps(_placed(row, place)) + "\n")
        (options.out / "photos").symlink_to(options.photos.resolve())
        photos = read_labelled(options.photos, kept_out=False)
        for number, row in enumerate(photo_triplets(photos, options.count, options.seed)):
            whole = _placed(row, "photos") | {"id": f"photo-{number}", "split": "train"}
            file.write(json.dumps(whole) + "\n")


def _placed(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a row with its images under `place`, and an id of its own."""
    placed = {key: row[key] for key in ("id", "text", "texts", "split") if key in row}
    if "id" in row:
        placed["id"] = f"{place}/{row['id']}"
    for key in ("image", "reference"):
        if key in row:
            placed[key] = f"{place}/{row[key]}"
    if "targets" in row:
        placed["targets"] = [f"{place}/{name}" for name in row["targets"]]
    return placed


if __name__ == "__main__":
    main()
