"""The rejects file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from indexer.errors import SourceError
from indexer.items import Reject
from indexer.rejects import RejectsFile


def test_is_made_with_the_first_reject_and_written_as_it_happens(tmp_path: Path) -> None:
    path, counts = tmp_path / "r.jsonl", Counter[str]()
    with RejectsFile(path, counts) as rejects:
        assert not path.exists()
        rejects.write(Reject("a\udc80", "a.jpg", "ID_INVALID", "größe", None))
        assert json.loads(path.read_text()) == {
            "id": "a\udc80",
            "image": "a.jpg",
            "reason": "ID_INVALID",
            "message": "größe",
            "bytes": None,
        }
        rejects.write(Reject("b", "b.jpg", "IMAGE_EMPTY", "empty", 0))
    assert len(path.read_text().splitlines()) == 2
    assert counts == {"ID_INVALID": 1, "IMAGE_EMPTY": 1}


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("old\n")
    with RejectsFile(path, Counter()):
        assert not path.exists()


@pytest.mark.parametrize("name", ["", "missing/r.jsonl"])
def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="--rejects"), RejectsFile(tmp_path / name, Counter()):
        pass
