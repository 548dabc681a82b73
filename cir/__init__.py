"""Composed image retrieval: find what looks like this image, with the change a text describes.

with cir.Client("127.0.0.1:50050") as client:
    for result in client.search("shop", image="dress.jpg", text="in red"):
        print(result.rank, result.score, result.id)
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cir._version import __version__ as __version__

if TYPE_CHECKING:
    from cir.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    # Modules are loaded with the first use of their names: services that need a part of this package, such
    # as the images, do not pay for the client.
    if name == "__all__":
        return import_module("cir.public").__all__
    if not name.startswith("_"):
        if find_spec(f"cir.{name}") is not None:
            return import_module(f"cir.{name}")
        public = import_module("cir.public")
        if name in public.__all__:
            found = globals()[name] = getattr(public, name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("cir.public").__all__})
