"""Types of payload fields that the user gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cir.fields import FieldType
from indexer.errors import SourceError


def read_schema(texts: Sequence[str]) -> dict[str, FieldType]:
    """Types by field from "field=type" texts and names of JSON files that hold {"field": "type"}.

    Later ones win.

    Raises:
        SourceError: a type that there is not, or a file that cannot be read.
    """
    schema: dict[str, FieldType] = {}
    for text in texts:
        name, separator, kind = text.rpartition("=")
        pairs: Mapping[str, object] = {name: kind} if separator else _read(Path(text))
        for column, value in pairs.items():
            if not isinstance(value, str) or value not in list(FieldType):
                raise SourceError(
                    f"`schema`: field {column!r} has type {value!r}; expected one of {', '.join(FieldType)}"
                )
            schema[column.strip()] = FieldType(value)
    return schema


def _read(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"`schema`: {path} is neither FIELD=TYPE nor a JSON file that can be read: {error}"
        ) from error
    if not isinstance(document, dict):
        raise SourceError(f'`schema`: {path} holds no JSON object such as {{"price": "float"}}')
    return document
