"""Tar shards, well made and hostile."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cir.fields import FieldType
from indexer.errors import SourceError
from indexer.read import read_image
from indexer.rejects import Reject
from indexer.sources.base import SourceItem
from indexer.sources.source_factory import open_source
from indexer.sources.tar import TarSource
from tests.indexer.helpers import jpeg


def write(path: Path, files: dict[str, bytes], special: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in special or []:
            tar.addfile(info)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def sample(number: int, **payload: Any) -> dict[str, bytes]:
    key = f"{number:06d}"
    return {f"{key}.jpg": jpeg(number), f"{key}.json": json.dumps(payload).encode()}


def test_members_of_one_key_are_an_item(tmp_path: Path) -> None:
    write(
        tmp_path / "a-000.tar", {**sample(1, price=1), "000001.txt": "a größe".encode(), "000001.cls": b"7"}
    )
    write(tmp_path / "a-001.tar", {**sample(2, price=2.5, nested={"x": 1}), "sub/3.x.png": jpeg(3)})
    source = open_source(tmp_path / "a-*.tar", text_fields=("text",))
    facts = source.survey()
    assert facts.total == 3
    assert facts.schema == {"price": FieldType.FLOAT, "text": FieldType.TEXT, "cls": FieldType.INTEGER}
    assert any("'nested'" in note for note in facts.notes)
    one, two, three = source.items()
    assert isinstance(one, SourceItem)
    assert isinstance(two, SourceItem)
    assert isinstance(three, SourceItem)
    assert (one.id, dict(one.payload)) == ("000001", {"price": 1.0, "text": "a größe", "cls": 7})
    assert (two.id, dict(two.payload), three.id) == ("000002", {"price": 2.5}, "sub/3")
    assert one.image == f"{tmp_path / 'a-000.tar'}!/000001.jpg"
    for item, number in ((one, 1), (two, 2), (three, 3)):
        loaded = read_image(item, 100_000)
        assert not isinstance(loaded, Reject)
        assert loaded.content == jpeg(number)
    small = read_image(one, 10)
    assert isinstance(small, Reject)
    assert small.reason == "IMAGE_TOO_MANY_BYTES"


def test_hostile_members_are_rejects(tmp_path: Path) -> None:
    shard = write(
        tmp_path / "a.tar",
        {
            **sample(1),
            "/etc/passwd.jpg": b"x",
            "../../up.jpg": b"x",
            "only.json": b"{}",
            "two.jpg": b"a",
            "two.png": b"b",
            "broken.jpg": b"a",
            "broken.json": b"[1]",
            "latin.jpg": b"a",
            "latin.txt": b"\xff\xfe\xfa",
            "empty.jpg": b"",
        },
        [
            special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            special("hard.jpg", tarfile.LNKTYPE, "000001.jpg"),
            special("device.jpg", tarfile.CHRTYPE),
            special("pipe.jpg", tarfile.FIFOTYPE),
        ],
    )
    source = TarSource(str(shard))
    assert source.survey().total == 12
    results = list(source.items())
    assert [r.id for r in results if isinstance(r, SourceItem)] == ["000001", "empty"]
    reasons = {r.id: r.reason for r in results if isinstance(r, Reject)}
    assert reasons == {
        "/etc/passwd": "IMAGE_NOT_READABLE",
        "../../up": "IMAGE_NOT_READABLE",
        "only": "IMAGE_MISSING",
        "two": "ROW_MALFORMED",
        "broken": "ROW_MALFORMED",
        "latin": "PAYLOAD_INVALID",
        "link": "IMAGE_NOT_READABLE",
        "hard": "IMAGE_NOT_READABLE",
        "device": "IMAGE_NOT_READABLE",
        "pipe": "IMAGE_NOT_READABLE",
    }


def cut(content: bytes) -> bytes:
    return content[:900]


def claims_to_be_huge(content: bytes) -> bytes:
    info = tarfile.TarInfo("huge.jpg")
    info.size = 1 << 40
    return info.tobuf() + bytes(1024)


def has_a_huge_header(content: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 34
    return info.tobuf() + bytes(4096)


def is_text(content: bytes) -> bytes:
    return b"this is no tar file" * 100


@pytest.mark.parametrize("spoil", [cut, claims_to_be_huge, has_a_huge_header, is_text])
def test_damaged_shards_are_told_before_anything_is_done(tmp_path: Path, spoil: Any) -> None:
    shard = write(tmp_path / "a.tar", {"000001.jpg": bytes(5000)})
    shard.write_bytes(spoil(shard.read_bytes()))
    with pytest.raises(SourceError, match=r"a\.tar"):
        TarSource(str(shard)).survey()


def test_compressed_missing_and_empty_shards(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    write(tmp_path / "empty.tar", {})
    for name in ("a.tar.gz", "none-*.tar", "empty.tar"):
        with pytest.raises(SourceError, match=r"uncompressed|no items"):
            open_source(tmp_path / name).survey()


APPLE = {
    "./._000001.jpg": b"\0\5\x16\7",
    "./000001.jpg": jpeg(1),
    "./._000001.json": b"\0\5\x16\7",
    "./000001.json": b'{"price": 1}',
    "__MACOSX/._000001.jpg": b"x",
    "PaxHeaders.77/000001.jpg": b"30 mtime=1",
    "d.ir/sub/._2.x.png": b"x",
    "d.ir/sub/2.x.png": jpeg(2),
    "d.ir/sub/2.json": b'{"price": 2}',
    "d.ir/.DS_Store": b"x",
    ".hidden/3.jpg": jpeg(3),
    "d.ir/readme.md": b"hello",
    "4.HIF": jpeg(4),
    "4.seg.npy": b"x",
    "5.psd": b"x",
    "6.psd": b"x",
    "6.json": b'{"price": 6}',
    "7.jp2": jpeg(7),
}


def test_companions_and_other_files_are_passed_over_and_counted(tmp_path: Path) -> None:
    source = TarSource(str(write(tmp_path / "a.tar", APPLE)))
    facts = source.survey()
    found = list(source.items())
    assert facts.total == len(found) == 5
    items = {item.id: dict(item.payload) for item in found if isinstance(item, SourceItem)}
    assert items == {"000001": {"price": 1}, "d.ir/sub/2": {"price": 2}, "4": {}, "7": {}}
    (reject,) = [item for item in found if isinstance(item, Reject)]
    assert (reject.id, reject.reason) == ("6", "IMAGE_MISSING")
    assert "6.psd" in reject.message
    counts = {"system_file": 6, "hidden": 1, "no_image": 2, "format_not_read": 2}
    assert facts.passed_over.counts == counts
    assert "5.psd" in facts.passed_over.text
    assert facts.notes == ()


def joined(tmp_path: Path, *parts: bytes) -> Path:
    shard = tmp_path / "cat.tar"
    shard.write_bytes(b"".join(parts))
    return shard


def test_shards_one_after_the_other_are_read_to_the_end(tmp_path: Path) -> None:
    one = write(tmp_path / "a.tar", {**sample(1), **sample(2)}).read_bytes()
    two = write(tmp_path / "b.tar", sample(3)).read_bytes()
    empty = write(tmp_path / "c.tar", {}).read_bytes()
    without_mark = one.rstrip(b"\0")
    without_mark += bytes(-len(without_mark) % 512)
    for parts in (
        (one, two),
        (one, empty, two),
        (one, bytes(3 << 20), two),
        (without_mark, two),
        (empty, one, two),
    ):
        source = TarSource(str(joined(tmp_path, *parts)))
        facts = source.survey()
        items = list(source.items())
        assert [item.id for item in items] == ["000001", "000002", "000003"]
        assert (facts.total, facts.notes) == (3, ())
        for number, item in enumerate(items, start=1):
            assert isinstance(item, SourceItem)
            loaded = read_image(item, 100_000)
            assert not isinstance(loaded, Reject)
            assert loaded.content == jpeg(number)


@pytest.mark.parametrize("rest", [b"trailing", b"x" * 512, b"\x1f\x8b" + bytes(600), bytes(511) + b"x"])
def test_what_follows_a_shard_and_is_none_is_told(tmp_path: Path, rest: bytes) -> None:
    shard = joined(tmp_path, write(tmp_path / "a.tar", sample(1)).read_bytes(), rest)
    with pytest.raises(SourceError, match=r"cat\.tar cannot be read"):
        TarSource(str(shard)).survey()


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "a.tar", {**sample(1), **sample(2), **sample(3)}).read_bytes())
    content[content.index(b"000002.jpg") + 2] ^= 1
    with pytest.raises(SourceError, match="damaged or cut off"):
        TarSource(str(joined(tmp_path, bytes(content)))).survey()


def test_wherever_a_shard_is_cut_it_is_told(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.tar", {**sample(1), **sample(2), "3.jpg": bytes(600)}).read_bytes()
    end = len(whole.rstrip(b"\0")) + 1024
    told = 0
    for length in sorted({*range(0, end, 101), *range(512, end, 512)}):
        shard = joined(tmp_path, whole[:length])
        try:
            facts = TarSource(str(shard)).survey()
        except SourceError:
            told += 1
            continue
        # At the border of a member nothing but the end mark is missing.
        assert facts.total == 3 or any("no end mark" in note for note in facts.notes), length
    assert told > 10


@pytest.mark.parametrize(("mode", "kind"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_shards_are_told_as_such(tmp_path: Path, mode: Any, kind: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        tar.addfile(tarfile.TarInfo("000001.jpg"))
    with pytest.raises(SourceError, match=f"compressed with {kind}"):
        TarSource(str(tmp_path / "a.tar")).survey()


def test_a_name_that_begins_like_a_compression_is_a_name(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", {"BZh.jpg": jpeg(1), "2.jpg": jpeg(2)})
    assert TarSource(str(shard)).survey().total == 2
    shard.write_bytes(shard.read_bytes()[:1100])
    with pytest.raises(SourceError, match=r"unexpected end of data|cut off"):
        TarSource(str(shard)).survey()


def test_a_shard_without_items_says_what_it_has(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", {"._1.jpg": b"x", "2.psd": b"x"})
    with pytest.raises(SourceError, match=r"holds no items.*format_not_read 1 \(a\.tar!/2\.psd\)"):
        TarSource(str(shard)).survey()
