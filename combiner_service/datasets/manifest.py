"""Any split as rows of a triplet manifest, which the loader of triplets reads back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from combiner_service.datasets.split import DatasetError, Split


def manifest_rows(splits: Sequence[Split], folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of the images and queries of `splits`, for a manifest in `folder`.

    Images are named by their expected place, relative to the folder, whether they are there or not. An id
    gets its split in front where there are several. Raises `DatasetError` for a place outside the folder.
    """
    base = folder.resolve()
    for split in splits:
        places = {name: _place(name, path, base) for name, path in split.paths.items()}
        for name in split.gallery:
            yield {"image": places[name], "split": split.name}
        for query in split.queries:
            row: dict[str, Any] = {
                "id": f"{split.name}/{query.id}" if len(splits) > 1 else query.id,
                "reference": places[query.reference],
                "texts": list(query.texts),
            }
            if query.targets:
                row["targets"] = [places[name] for name in query.targets]
            if query.group:
                row["group"] = [places[name] for name in query.group]
            yield row | {"split": split.name}


def _place(name: str, path: Path, base: Path) -> str:
    try:
        return path.resolve().relative_to(base).as_posix()
    except ValueError:
        raise DatasetError(
            f"image {name} is at {path}, outside {base}; write the manifest to a folder that has all images"
        ) from None
