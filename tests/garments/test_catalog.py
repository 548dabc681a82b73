"""A catalog on disk: the same bytes for a seed, and readable by the indexer and the loaders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cir.fields import FieldType
from combiner_training.datasets.check import check_images, make_report
from combiner_training.datasets.triplets import load_dialogues, load_triplets, splits_in
from garments.catalog import LEAST_SIZE, CatalogError, CatalogResult, make_catalog
from garments.items import catalog_items
from garments.vocabulary import split_of
from indexer.sources.base import SourceItem
from indexer.sources.manifest import ManifestSource
from indexer.validate import validate_items

pytestmark = pytest.mark.slow

SMALL = (48, 64)
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    return make_catalog(
        tmp_path_factory.mktemp("garments") / "shop", size=LEAST_SIZE, seed=4, image_size=SMALL
    )


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()


@pytest.mark.service
def test_processes_write_the_same_bytes_as_one(made: CatalogResult, tmp_path: Path) -> None:
    drawn: list[int] = []
    again = make_catalog(
        tmp_path, size=LEAST_SIZE, seed=4, workers=2, image_size=SMALL, on_image=drawn.append
    )
    assert digest(tmp_path) == digest(made.manifest.parent)
    assert drawn == list(range(1, LEAST_SIZE + 1))
    assert again.counts == made.counts


def test_the_manifest_is_indexed_whole_with_typed_payload(made: CatalogResult) -> None:
    source = ManifestSource(made.manifest)
    facts = source.survey()
    assert facts.total == LEAST_SIZE
    assert facts.schema["price"] is FieldType.FLOAT
    assert {facts.schema[name] for name in ("kind", "colour", "pattern", "sleeve", "length", "neckline")} == {
        FieldType.KEYWORD
    }
    admitted = list(validate_items(source.items(), facts.schema))
    items = {item.id: item for item in catalog_items(LEAST_SIZE, 4)}
    assert len(admitted) == len(items)
    for item in admitted:
        assert isinstance(item, SourceItem)
        assert items[item.id].attributes.items() <= dict(item.payload).items()
        assert item.payload["split"] == split_of(items[item.id].attributes)


def test_every_split_can_be_loaded_and_answered(made: CatalogResult) -> None:
    assert splits_in(made.triplets) == SPLITS
    for name in SPLITS:
        split = load_triplets(made.triplets, name)
        report = make_report(split, check_images(split.paths.values()))
        assert report.complete
        assert report.queries == made.counts[f"{name}_triplets"] > 0
        for query in split.queries:
            assert query.reference in query.group
            assert set(query.group) & set(query.targets) == {query.group[1]}
            assert set(query.targets) <= set(split.gallery)
    assert len(load_triplets(made.triplets, "test").gallery) == LEAST_SIZE
    assert len(load_triplets(made.triplets, "train").gallery) < LEAST_SIZE


def test_wishes_come_in_four_wordings_each(made: CatalogResult) -> None:
    split = load_triplets(made.wordings, "test")
    texts: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for query in split.queries:
        texts.setdefault((query.reference, query.targets), set()).update(query.texts)
    assert len(split.queries) == made.counts["test_wordings"] == 4 * len(texts) > 0
    assert {len(each) for each in texts.values()} == {4}
    assert set(split.gallery) == set(load_triplets(made.triplets, "test").gallery)


def test_dialogues_can_be_loaded(made: CatalogResult) -> None:
    images = {json.loads(line)["image"] for line in made.manifest.read_text().splitlines()}
    for name in ("val", "test"):
        loaded = load_dialogues(made.dialogues, name)
        assert len(loaded) == made.counts[f"{name}_dialogues"]
        for dialogue in loaded:
            assert 3 <= len(dialogue.turns) <= 5
            assert {dialogue.reference, *(t for turn in dialogue.turns for t in turn.targets)} <= images


def test_the_same_catalog_may_be_made_again_and_nothing_else_is_touched(
    made: CatalogResult, tmp_path: Path
) -> None:
    folder = made.manifest.parent
    before = digest(folder)
    with pytest.raises(CatalogError, match="holds another catalog"):
        make_catalog(folder, size=LEAST_SIZE, seed=5, image_size=SMALL)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CatalogError, match="is not empty and holds no catalog"):
        make_catalog(tmp_path, size=LEAST_SIZE, seed=4)
    with pytest.raises(CatalogError, match="is not empty and holds no catalog"):
        make_catalog(tmp_path / "notes.txt", size=LEAST_SIZE, seed=4)
    with pytest.raises(CatalogError, match=f"expected {LEAST_SIZE} at least"):
        make_catalog(tmp_path / "new", size=LEAST_SIZE - 1, seed=4)
    assert not (tmp_path / "new").exists()
    next((folder / "images").iterdir()).write_bytes(b"half a picture")
    make_catalog(folder, size=LEAST_SIZE, seed=4, image_size=SMALL)
    assert digest(folder) == before
