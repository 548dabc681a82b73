"""Types given by the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from cir.fields import FieldType
from indexer.errors import SourceError
from indexer.sources.schema import read_schema


def test_later_ones_win(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"a": "geo", "b": "text"}')
    schema = read_schema(["a=float", str(tmp_path / "s.json"), "b=keyword", "x=y=bool"])
    assert schema == {"a": FieldType.GEO, "b": FieldType.KEYWORD, "x=y": FieldType.BOOL}
    assert read_schema([]) == {}


@pytest.mark.parametrize("text", ["a=number", "a=", "nowhere.json", "list.json", "wrong.json", "broken.json"])
def test_what_is_wrong_is_told(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "wrong.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SourceError, match="`schema`"):
        read_schema([text])
