"""Images that stand in Parquet files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cir.fields import FieldType as K
from indexer.items import content_hash
from indexer.sources.base import ImageError, SourceItem
from indexer.sources.manifest import ManifestSource
from indexer.sources.parquet import ParquetImage
from tests.indexer.sources.parquet_files import payloads, rejects, write

STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def test_images_of_hugging_face_are_read_from_their_bytes(tmp_path: Path) -> None:
    images = [
        {"bytes": b"one", "path": "a/1.jpg"},
        {"bytes": b"two", "path": None},
        {"bytes": None, "path": "3.jpg"},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"", "path": "6.jpg"},
    ]
    path = write(tmp_path / "m.parquet", {"image": pa.array(images, STRUCT), "label": range(6)})
    source = ManifestSource(path)
    assert source.survey().schema == {"label": K.INTEGER}
    assert payloads(source) == {
        "a/1.jpg": {"label": 0},
        content_hash(b"two"): {"label": 1},
        "3.jpg": {"label": 2},
        "6.jpg": {"label": 5},
    }
    assert [reject.message for reject in rejects(source)] == [
        f"row {row}: column 'image' is empty; expected a file path or the bytes of an image" for row in (4, 5)
    ]
    one, two, three, _ = (item for item in source.items() if isinstance(item, SourceItem))
    assert one.image_ref.read(3) == b"one"
    assert two.image_ref.read(3) == b"two"
    assert three.path == tmp_path / "3.jpg"
    assert one.image == f"{path}!/row/1"
    assert one.image_ref.stat().size == 3
    assert one.image_ref.stat().mtime_ns == path.stat().st_mtime_ns
    with pytest.raises(ImageError, match="has 3 bytes, the embedder takes at most 2"):
        one.image_ref.read(2)
    locations = [
        item.image
        for item in ManifestSource(path, image_base="s3://b/").items()
        if isinstance(item, SourceItem)
    ]
    assert locations == ["s3://b/a/1.jpg", f"{path}!/row/2", "s3://b/3.jpg", "s3://b/6.jpg"]


def test_images_as_plain_bytes_are_read(tmp_path: Path) -> None:
    for kind in (pa.binary(), pa.large_binary(), pa.binary(3)):
        path = write(tmp_path / "m.parquet", {"id": ["x"], "image": pa.array([b"one"], kind)})
        (item,) = ManifestSource(path).items()
        assert isinstance(item, SourceItem)
        assert (item.id, item.image_ref.read(3)) == ("x", b"one")


def test_images_are_read_again_in_any_order_once_their_batch_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.sources.parquet._BATCH_BYTES", 2_000)
    monkeypatch.setattr("indexer.sources.parquet._KEPT_BYTES", 2_000)
    content = [bytes([number]) * (100 + number) for number in range(100)]
    images = pa.array([{"bytes": each, "path": None} for each in content], STRUCT)
    path = write(tmp_path / "m.parquet", {"image": images}, row_group_size=30, compression="none")
    refs = [item.image_ref for item in ManifestSource(path).items() if isinstance(item, SourceItem)]
    first = refs[0]
    assert isinstance(first, ParquetImage)
    assert sum(len(array) for _, array in first.images.kept) < 60
    for number in (99, 0, 31, 30, 29, 59, 60, 1):
        assert refs[number].read(1000) == content[number]
    path.write_bytes(b"gone")
    with pytest.raises(ImageError, match="cannot be read"):
        refs[45].read(1000)
    path.unlink()
    with pytest.raises(ImageError, match="its manifest is gone"):
        refs[45].read(1000)
