"""Which kind of source a path is."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer import FolderSource, ManifestSource, SourceError, open_source


def test_folders_and_files(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image\n1.jpg\n")
    assert isinstance(open_source(tmp_path), FolderSource)
    assert isinstance(open_source(tmp_path / "m.csv"), ManifestSource)


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="for manifests only"):
        open_source(tmp_path, text_fields=("title",))
