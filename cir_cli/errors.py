"""Errors that end a command with one line, and optional parts that are not installed."""

from __future__ import annotations

from importlib.util import find_spec

from cir.extras import install

#: Exit code of a command that Ctrl-C ended.
INTERRUPTED = 130


class Failure(Exception):
    """A command failed; the message is the one line that is shown, `exit_code` its exit code."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class WrongUsage(Failure):
    """The options of a command are written wrongly or do not go together, as the command itself finds."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)


class Reservation(Failure):
    """The command did what it was asked but for a part, which the message names."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=3)


# One module of each requirement that is not in the base install.
_MODULES = {
    "embedder": ("ftfy", "openvino", "regex", "tokenizers"),
    "torch": ("open_clip", "safetensors", "torch", "torchvision"),
    "export": ("onnx", "onnxscript"),
    "combiner": ("openvino", "safetensors"),
    "train": ("matplotlib", "torch"),
    "search": ("qdrant_client", "qdrant_edge"),
    "web": ("jinja2", "multipart", "starlette", "uvicorn"),
}
_NEEDS = {
    "embedder": ("embedder",),
    "export": ("embedder", "torch", "export"),
    "combiner": ("combiner",),
    "train": ("combiner", "train"),
    "adapt": ("embedder", "combiner", "search", "train"),
    "search": ("search",),
    "indexer": ("search",),
    "demo": ("embedder", "combiner", "search", "web"),
}


def require(extra: str, *, what: str) -> None:
    """Raise `Failure`, naming the extra to install, unless all that it brings is there."""
    missing = [module for part in _NEEDS[extra] for module in _MODULES[part] if find_spec(module) is None]
    if missing:
        raise Failure(f"{what} needs parts that are not installed ({', '.join(missing)}); {install(extra)}")
