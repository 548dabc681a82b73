"""Joint encoders: plug-ins that read an image and a text together, and run where the embedder runs.

Their queries lie in the space of the model that the embedder serves, so that they search its catalogs. They
are the composers that need image and text themselves; those that work on features run in the combiner
service.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np
import numpy.typing as npt

from cir.composers import JOINT_PREFIX
from embedder_service.batching.jobs import Features
from embedder_service.images.preprocess import Pixels
from embedder_service.served import ServedModel
from service_runtime.errors import StartupError

#: Entry points of this group name functions of the `ServedModel` that return a `JointEncoder`, or None where
#: they have none for that model. Such an encoder is named `joint/` and the entry point's name.
GROUP = "cir.joint_encoders"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class JointEncoder(ABC):
    """An encoder of queries. `description` is one sentence for people. Any thread may call it."""

    description: str

    @abstractmethod
    def encode(self, pixels: Pixels, texts: Sequence[str]) -> Features:
        """Return queries, float32 (n, d), in the space of the served model.

        `pixels` are uint8 (n, size, size, 3), preprocessed as the served model's; `texts` are whole. Each row
        of the answer depends on the same row of both alone.
        """


Factory = Callable[[ServedModel], JointEncoder | None]


@dataclass(frozen=True, slots=True)
class JointEncoders:
    """The joint encoders of a service by name, and how their queries go through the batcher."""

    by_name: dict[str, JointEncoder]
    image_size: int
    dimension: int

    def rows(self, name: str, pixels: Pixels, text: str) -> npt.NDArray[np.void]:
        """Return one image, (size, size, 3), and its text as a row for the encoder of a name."""
        row = np.zeros(1, self._type)
        row["encoder"], row["pixels"], row["text"] = list(self.by_name).index(name), pixels, text
        return row

    def encode(self, rows: npt.NDArray[np.void]) -> Features:
        """Return queries, float32 (n, d), of rows for any of the encoders."""
        queries = np.empty((len(rows), self.dimension), np.float32)
        for number, encoder in enumerate(self.by_name.values()):
            own = np.flatnonzero(rows["encoder"] == number)
            if own.size:
                pixels = np.ascontiguousarray(rows["pixels"][own])
                queries[own] = encoder.encode(pixels, rows["text"][own].tolist())
        return queries

    @property
    def _type(self) -> np.dtype[np.void]:
        pixels: Any = ("pixels", np.uint8, (self.image_size, self.image_size, 3))
        return np.dtype([("encoder", np.int64), pixels, ("text", object)])


def load_joint_encoders(served: ServedModel) -> JointEncoders:
    """Load every joint encoder for a model: the shipped one, then those of other distributions by name.

    Raises:
        StartupError: An installed one cannot be loaded, or its name cannot be used; the message names it.
    """
    found: dict[str, JointEncoder] = {}
    shipped = _shipped(served)
    if shipped is not None:
        found[f"{JOINT_PREFIX}garments"] = shipped
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        name = JOINT_PREFIX + point.name
        if not _NAME.fullmatch(point.name) or name in found:
            raise StartupError(
                f"{_origin(point)} has a name that is taken or unusable; expected letters, digits, '.', '_' "
                "and '-'"
            )
        encoder = _load(point, served)
        if encoder is not None:
            found[name] = encoder
    return JointEncoders(found, served.preprocessor.size, served.info.dimension)


def _shipped(served: ServedModel) -> JointEncoder | None:
    # Imported here: a service by torch alone has no other use for this runtime.
    from embedder_service.light.joint import load_shipped

    return load_shipped(served)


def _load(point: EntryPoint, served: ServedModel) -> JointEncoder | None:
    try:
        encoder = point.load()(served)
    except Exception as error:
        raise StartupError(
            f"{_origin(point)} cannot be loaded ({type(error).__name__}: {error}); update or uninstall it"
        ) from error
    if encoder is not None and not isinstance(encoder, JointEncoder):
        raise StartupError(
            f"{_origin(point)} gives a {type(encoder).__name__}; expected an "
            "embedder_service.joint.JointEncoder, or None where it has none for the model"
        )
    return encoder


def _origin(point: EntryPoint) -> str:
    distribution = f" of {point.dist.name}" if point.dist else ""
    return f"the joint encoder {point.name!r}{distribution} ({point.value})"
