"""What a checkpoint says of itself, and how that is written as the string map of a safetensors header."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_sizes import NetworkSizes

FORMAT_KEY = "cir_format"
FORMAT = "combiner/1"
_MAX_CHARACTERS = 16_384
_SIZES = tuple(item.name for item in fields(NetworkSizes))
_TEXTS = ("model_fingerprint", "training_data", "protocol", "software_version")
_OWN = (FORMAT_KEY, *_SIZES, *_TEXTS, "metrics", "epoch")


@dataclass(frozen=True, slots=True)
class CheckpointMetadata:
    """Where a checkpoint comes from. Empty values mean: it does not say.

    `model_fingerprint` names the model whose features it was trained on; `protocol` says how `metrics`
    were measured (gallery, caption joining, reference kept or removed), for a number without its
    protocol cannot be compared. `software_version` is that of the program that wrote the file; `extra` keeps
    what else the header holds.
    """

    model_fingerprint: str = ""
    training_data: str = ""
    protocol: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: int | None = None
    software_version: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """All that is known, as text by name; the fingerprint is left out because it travels on its own."""
        known = dict(self.extra)
        if self.training_data:
            known["training_data"] = self.training_data
        if self.protocol:
            known["protocol"] = self.protocol
        if self.metrics:
            known["metrics"] = json.dumps(dict(self.metrics), sort_keys=True)
        if self.epoch is not None:
            known["epoch"] = str(self.epoch)
        if self.software_version:
            known["software_version"] = self.software_version
        return known


def to_header(metadata: CheckpointMetadata, sizes: NetworkSizes) -> dict[str, str]:
    """The header of our own format. ValueError for names in `extra` that the format uses itself."""
    clash = sorted(set(metadata.extra) & set(_OWN))
    if clash:
        raise ValueError(f"extra metadata uses names of the format itself: {', '.join(clash)}")
    if not all(math.isfinite(value) for value in metadata.metrics.values()):
        raise ValueError(f"metrics must be finite numbers, not {dict(metadata.metrics)}")
    header = {FORMAT_KEY: FORMAT, **{name: str(getattr(sizes, name)) for name in _SIZES}}
    if metadata.model_fingerprint:
        header["model_fingerprint"] = metadata.model_fingerprint
    return {**header, **metadata.texts()}


def from_header(header: Mapping[str, str], sizes: NetworkSizes) -> CheckpointMetadata:
    """Read a header; `sizes` are those of the tensors beside it.

    A header without our format key belongs to a bare state dict: it is kept as `extra` and says nothing.
    Raises InvalidCheckpointError for another version of the format, values that cannot be read, or sizes that
    differ from the tensors'.
    """
    length = sum(len(name) + len(value) for name, value in header.items())
    if length > _MAX_CHARACTERS:
        raise InvalidCheckpointError(
            f"the header's metadata has {length} characters; at most {_MAX_CHARACTERS} are read, "
            "because every listing carries them"
        )
    if FORMAT_KEY not in header:
        return CheckpointMetadata(extra=dict(header))
    if header[FORMAT_KEY] != FORMAT:
        raise InvalidCheckpointError(
            f"the header says {FORMAT_KEY}={header[FORMAT_KEY]!r}; this version reads {FORMAT!r}"
        )
    for name in _SIZES:
        if header.get(name) != str(getattr(sizes, name)):
            raise InvalidCheckpointError(
                f"the header says {name}={header.get(name)}, the tensors say {getattr(sizes, name)}; "
                "the file was put together from two checkpoints, write it again"
            )
    return CheckpointMetadata(
        **{name: header.get(name, "") for name in _TEXTS},
        metrics=_metrics(header.get("metrics", "{}")),
        epoch=_epoch(header["epoch"]) if "epoch" in header else None,
        extra={name: value for name, value in header.items() if name not in _OWN},
    )


def _metrics(text: str) -> dict[str, float]:
    try:
        values = json.loads(text)
        metrics = {str(name): float(value) for name, value in values.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidCheckpointError(
            f"metrics in the header are not a JSON object of numbers: {error}"
        ) from error
    if not all(math.isfinite(value) for value in metrics.values()):
        raise InvalidCheckpointError("metrics in the header are not all finite numbers")
    return metrics


def _epoch(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InvalidCheckpointError(f"epoch in the header is {text!r}, not a whole number") from error
