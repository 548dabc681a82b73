"""What is loaded as the model, before a runtime is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder_service.loading import load_served
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("./nofolder", "./nofolder"),
        ("../no/folder", "../no/folder"),
        ("/no/folder", "/no/folder"),
        ("~/no-such-folder-here", "~/no-such-folder-here"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
        ("local-dir:nofolder", "nofolder"),
        ("local-dir:", "without a name"),
        ("./a-file", "./a-file"),
        (f"/{'x' * 300}", "/xxx"),
    ],
)
def test_a_path_that_is_no_folder_is_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    with pytest.raises(StartupError, match="there is no folder") as raised:
        load_served(EmbedderSettings.load(["--architecture", name]))
    assert f"there is no folder {shown}" in str(raised.value)


def test_names_are_no_paths() -> None:
    settings = EmbedderSettings.load(["--architecture", "no-such/model", "--runtime", "openvino"])
    with pytest.raises(StartupError, match="no folder of ONNX towers"):
        load_served(settings)
