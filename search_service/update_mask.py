"""What an update changes in each item (AIP-134, AIP-161). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask

from cir.common.v1 import errors_pb2 as errors
from service_runtime.errors import ServiceError
from vector_store.points import Payload, PayloadValue

MAX_PATHS = 256
_FIELD = re.compile(r"payload\.fields\.(?:(\w+)|`([^`]+)`)", re.ASCII)


@dataclass(frozen=True, slots=True)
class UpdateMask:
    """`payload` and `image` are replaced as wholes, `fields` are set or removed one by one."""

    payload: bool
    fields: tuple[str, ...]
    image: bool

    def payload_of(self, stored: Payload, given: Mapping[str, PayloadValue]) -> Payload:
        """An item's payload after the update."""
        if self.payload:
            return given
        kept = {name: value for name, value in stored.items() if name not in self.fields}
        return kept | {name: given[name] for name in self.fields if name in given}


def read_mask(mask: FieldMask) -> UpdateMask | None:
    """The mask of a request; None where it is empty and each item says what changes by what it has.

    Raises `ServiceError` (FIELD_INVALID, OUT_OF_RANGE).
    """
    if len(mask.paths) > MAX_PATHS:
        raise ServiceError(
            errors.OUT_OF_RANGE, f"update_mask has at most {MAX_PATHS} paths", field="update_mask"
        )
    if not mask.paths:
        return None
    fields: dict[str, None] = {}
    for path in mask.paths:
        if path in ("payload", "image"):
            continue
        named = _FIELD.fullmatch(path)
        if named is None:
            raise ServiceError(
                errors.FIELD_INVALID,
                f"update_mask has the path {path[:200]!r}; expected payload, payload.fields.NAME or image "
                "(vectors are changed by UpsertItems)",
                field="update_mask",
            )
        fields[named[1] or named[2]] = None
    return UpdateMask("payload" in mask.paths, tuple(fields), "image" in mask.paths)
