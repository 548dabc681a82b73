"""Data sets of our own: manifests of triplets, read and written, and dialogues of several changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from combiner_training.datasets.base import (
    DatasetError,
    Dialogue,
    DialogueTurn,
    Query,
    Row,
    Split,
    as_list,
    as_name,
    as_object,
    as_text,
    field,
    in_order,
    read_rows,
    unique,
)
from combiner_training.datasets.fashioniq_turns import load_fashioniq_turns

#: The manifest in a folder of triplets.
TRIPLETS_FILE = "triplets.jsonl"
#: The split of all rows.
ALL = "all"
_IMAGE_ROW = frozenset(("image", "split"))
_QUERY_ROW = frozenset(("id", "reference", "text", "texts", "target", "targets", "group", "split"))

# What other data sets call the same.
_MEANT = {
    **dict.fromkeys(("ref", "candidate", "source", "reference_image", "query_image"), "reference"),
    **dict.fromkeys(("caption", "query", "modification", "relative_caption", "instruction"), "text"),
    "captions": "texts",
    **dict.fromkeys(("answer", "target_image", "target_hard"), "target"),
    **dict.fromkeys(("answers", "target_images"), "targets"),
}


def load_triplets(path: Path, split: str | None = None) -> Split:
    """Load one split of a triplet manifest, or all of its rows as the split "all".

    Rows that name no split are the split "all", too.

    A row is a query or an image of the gallery. A query has `reference`, `text` or `texts`, `target` or
    `targets` (neither where the answers are withheld), and may have `id` (default: the number of its row),
    `group` and `split`. An image row has `image` and may have `split`; without one it belongs to every
    split. Names are paths relative to the manifest's folder.

    The gallery is the split's image rows; where it has none, all names of its queries. The data set is
    named after the file. A folder stands for the file triplets.jsonl in it.

    Raises:
        DatasetError: The file or a row cannot be used.
    """
    path = _manifest(path)
    if split == ALL and not splits_in(path):
        split = None
    queries: list[Query] = []
    images: list[str] = []
    splits: set[str] = set()
    for number, (where, row) in enumerate(read_rows(path), start=1):
        of_row = as_text(row["split"], f"{where}, split") if "split" in row else None
        if of_row is not None:
            splits.add(of_row)
        _check_fields(row, where)
        # Rows of other splits are read too: a fault is reported whichever split is asked for.
        if "image" in row:
            image = as_name(row["image"], f"{where}, image")
            if split is None or of_row is None or of_row == split:
                images.append(image)
        else:
            query = _query(row, where, str(number))
            if split is None or of_row == split:
                queries.append(query)
    if split is not None and split not in splits:
        if not splits:
            raise DatasetError(
                f"{path} has no split {split!r}: its rows name none, and are the split {ALL!r}"
            )
        raise DatasetError(f"{path} has no split {split!r} (splits: {', '.join(sorted(splits))})")
    if not queries:
        raise DatasetError(f"{path} has no queries{f' in split {split!r}' if split else ''}")
    unique([query.id for query in queries], f"{path}, ids")
    gallery = in_order(images) if split is None else unique(images, f"{path}, images of split {split!r}")
    named = in_order(name for query in queries for name in (query.reference, *query.targets, *query.group))
    gallery = gallery or named
    folder = path.parent
    paths: Mapping[str, Path] = {name: folder / name for name in in_order((*gallery, *named))}
    return Split(path.stem, split or ALL, tuple(queries), gallery, paths)


def _manifest(path: Path) -> Path:
    return path / TRIPLETS_FILE if path.is_dir() else path


def _check_fields(row: Row, where: str) -> None:
    known = _IMAGE_ROW if "image" in row else _QUERY_ROW
    if unknown := sorted(row.keys() - known):
        listed = ", ".join(f"{name!r}{f' ({_MEANT[name]}?)' if name in _MEANT else ''}" for name in unknown)
        raise DatasetError(
            f"{where} has the field{'s' if len(unknown) > 1 else ''} {listed}; "
            f"expected {', '.join(sorted(known))}"
        )


def _query(row: Row, where: str, row_id: str) -> Query:
    texts = tuple(as_text(text, f"{where}, text") for text in _one_or_more(row, "text", "texts", where))
    if not texts:
        raise DatasetError(f"{where} has no text; expected text or texts")
    targets = [as_name(name, f"{where}, target") for name in _one_or_more(row, "target", "targets", where)]
    group = [as_name(name, f"{where}, group") for name in as_list(row.get("group", []), f"{where}, group")]
    return Query(
        as_text(row["id"], f"{where}, id") if "id" in row else row_id,
        as_name(field(row, "reference", where), f"{where}, reference"),
        texts,
        unique(targets, f"{where}, targets"),
        unique(group, f"{where}, group"),
    )


def _one_or_more(row: Row, one: str, more: str, where: str) -> list[object]:
    if one in row and more in row:
        raise DatasetError(f"{where} has both {one!r} and {more!r}; expected one of them")
    return [row[one]] if one in row else as_list(row.get(more, []), f"{where}, {more}")


def splits_in(path: Path) -> tuple[str, ...]:
    """List the splits that a manifest names, in order.

    Raises:
        DatasetError: The file or a row cannot be used.
    """
    path = _manifest(path)
    return in_order(
        as_text(row["split"], f"{where}, split") for where, row in read_rows(path) if "split" in row
    )


def manifest_rows(splits: Sequence[Split], folder: Path) -> Iterator[dict[str, Any]]:
    """Return rows of the images and queries of `splits`, for a manifest in `folder`.

    Images are named by their expected place, relative to the folder, if they are there or not; a link in the
    folder that leads to them counts as a place in it. An id gets its split in front where there are several,
    unless it has it.

    Raises:
        DatasetError: A place is outside the folder.
    """
    base = Path(os.path.abspath(folder))
    for split in splits:
        own = "" if len(splits) == 1 else f"{split.name}/"
        places = {name: _place(name, path, base) for name, path in split.paths.items()}
        for name in split.gallery:
            yield {"image": places[name], "split": split.name}
        for query in split.queries:
            row: dict[str, Any] = {
                "id": query.id if query.id.startswith(own) else own + query.id,
                "reference": places[query.reference],
                "texts": list(query.texts),
            }
            if query.targets:
                row["targets"] = [places[name] for name in query.targets]
            if query.group:
                row["group"] = [places[name] for name in query.group]
            yield row | {"split": split.name}


def _place(name: str, path: Path, base: Path) -> str:
    place, within = Path(os.path.abspath(path)), base
    if not place.is_relative_to(within):
        # Only then: links are looked up in the file system, image by image.
        place, within = path.resolve(), base.resolve()
    if place.is_relative_to(within):
        return place.relative_to(within).as_posix()
    raise DatasetError(
        f"image {name} is at {path}, outside {base}; write the manifest to a folder that has all images, or "
        "a link to their folder by whose path the data set is named"
    )


#: Name of the file of dialogues next to a manifest of triplets.
DIALOGUES_FILE = "dialogues.jsonl"


def load_dialogues(path: Path, split: str | None = None, *, required: bool = True) -> tuple[Dialogue, ...]:
    """Load the dialogues of a JSON Lines file, in order; all of them unless a split is named.

    A row has `id`, `split`, `reference` and `turns`, each with `text` and `targets`. Without `reference` the
    dialogue begins with its first text. A file that ends in .json is one of Multi-turn FashionIQ
    (fashioniq_turns.py).

    Raises:
        DatasetError: A row cannot be used, or there are no dialogues although they are `required`.
    """
    if path.suffix.lower() == ".json":
        return load_fashioniq_turns(path, split)
    dialogues: list[Dialogue] = []
    for where, row in read_rows(path):
        turns = tuple(
            _turn(as_object(turn, where), f"{where}, turn {number}")
            for number, turn in enumerate(as_list(field(row, "turns", where), where), start=1)
        )
        if not turns:
            raise DatasetError(f"{where} has no turns")
        of_row = as_text(field(row, "split", where), f"{where}, split")
        dialogue = Dialogue(
            as_text(field(row, "id", where), f"{where}, id"),
            as_name(row["reference"], f"{where}, reference") if "reference" in row else "",
            turns,
        )
        if split is None or of_row == split:
            dialogues.append(dialogue)
    if required and not dialogues:
        raise DatasetError(f"{path} has no dialogues{f' in split {split!r}' if split else ''}")
    unique([dialogue.id for dialogue in dialogues], f"{path}, ids")
    return tuple(dialogues)


def _turn(turn: dict[str, object], where: str) -> DialogueTurn:
    targets = as_list(field(turn, "targets", where), f"{where}, targets")
    return DialogueTurn(
        as_text(field(turn, "text", where), f"{where}, text"),
        tuple(as_name(name, f"{where}, targets") for name in targets),
    )
