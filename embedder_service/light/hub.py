"""Folders of ONNX towers by their name on the Hub, or on a server that answers as it does (`HF_ENDPOINT`)."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from embedder_service.light.folder import DOCUMENT, FILES
from embedder_service.light.published import CONFIG, PIXELS
from service_runtime.errors import StartupError

# Of other files in such repositories, most are for other runtimes.
_NEEDED = [CONFIG, DOCUMENT, *FILES, "visual/*", "textual/*"]
_NOT_NEEDED = ["*.armnn", "*.rknn", "*/fp16/*", "*.md"]


def fetch_folder(repository: str, cache: Path | None) -> Path | None:
    """Return the folder of a repository that holds ONNX towers; None where it holds something else.

    What was downloaded before is taken from the cache, without a network too.

    Raises:
        StartupError: the repository cannot be had; the message is one line.
    """
    # Real files: those of the Hub's own cache are links, and weights behind links are not read.
    folder = (cache or Path(HF_HUB_CACHE)) / "onnx" / repository.replace("/", "--")
    try:
        if not any(_has(repository, name, folder) for name in (PIXELS, DOCUMENT)):
            return None
        snapshot_download(repository, local_dir=folder, allow_patterns=_NEEDED, ignore_patterns=_NOT_NEEDED)
    except Exception as error:
        # Errors of HTTP, of names and of files share no base class.
        raise _unreachable(repository, error) from error
    return folder


def _has(repository: str, name: str, folder: Path) -> bool:
    try:
        hf_hub_download(repository, name, local_dir=folder)
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        return False
    return True


def _unreachable(repository: str, error: Exception) -> StartupError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return StartupError(
        f"hf-hub:{repository} cannot be downloaded: {line}; check the name and the network, or download the "
        "repository on a machine with access and give its folder as local-dir:PATH"
    )
