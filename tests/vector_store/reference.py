"""An independent evaluation of the contract in plain Python and numpy, which the engines must agree with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from vector_store.filters import Condition, Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from vector_store.types import PointBatch

EARTH_RADIUS_M = 6_371_008.8


def passes(condition: Condition, item_id: str, payload: Mapping[str, Any]) -> bool:
    """Whether an item satisfies a condition, as `vector_store.filters` defines it."""
    match condition:
        case Filter(must, should, must_not):
            return (
                all(passes(c, item_id, payload) for c in must)
                and (not should or any(passes(c, item_id, payload) for c in should))
                and not any(passes(c, item_id, payload) for c in must_not)
            )
        case HasId(ids):
            return item_id in ids
        case MatchAny("added", values):
            # A text of ten characters is a date, which is all moments of its day.
            stored = [_ordered(v).astimezone(UTC) for v in _elements(payload, "added")]
            days = {m.date().isoformat() for m in stored} & {str(v) for v in values if len(str(v)) == 10}
            return bool(days) or any(_ordered(v) in stored for v in values if len(str(v)) > 10)
        case MatchAny(field, values):
            return any(type(v) is type(w) and v == w for v in _elements(payload, field) for w in values)
        case Exists(field):
            return payload.get(field) not in (None, [])
        case Range(field, gt, gte, lt, lte):
            bounds: list[tuple[Any, Callable[[Any, Any], bool]]] = [
                (gt, lambda v, b: v > b),
                (gte, lambda v, b: v >= b),
                (lt, lambda v, b: v < b),
                (lte, lambda v, b: v <= b),
            ]
            return any(
                all(compare(_ordered(v), _ordered(bound)) for bound, compare in bounds if bound is not None)
                for v in _elements(payload, field)
            )
        case GeoRadius(field, latitude, longitude, radius_meters):
            return any(
                _distance(v["lat"], v["lon"], latitude, longitude) < radius_meters
                for v in _elements(payload, field)
            )
        case MatchText(field, text):
            texts = [v.lower() for v in _elements(payload, field)]
            found = {word for v in texts for word in re.findall("[a-z0-9]+", v)}
            # Scripts without spaces: every pair of characters, in Thai every three, stands in a text.
            runs = re.findall(r"[\u0e00-\u0e7f]+|[^\x00-\u0e7f]+", text.lower())
            parts = [part for run in runs for part in _windows(run, 3 if run[0] < "\u0e80" else 2)]
            return set(re.findall("[a-z0-9]+", text.lower())) <= found and all(
                any(part in v for v in texts) for part in parts
            )
    raise AssertionError(condition)


def ranking(batch: PointBatch, query: Any, where: Filter | None) -> list[tuple[str, float]]:
    """Ids with cosines, best first, equal cosines by id."""
    wide = np.asarray(batch.features, dtype=np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    direction = np.asarray(query, dtype=np.float64) / np.linalg.norm(np.asarray(query, dtype=np.float64))
    scores = wide @ direction
    rows = [
        (item_id, float(score))
        for item_id, payload, score in zip(batch.ids, batch.payloads, scores, strict=True)
        if where is None or passes(where, item_id, payload)
    ]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _windows(run: str, size: int) -> list[str]:
    return [run[at : at + size] for at in range(max(1, len(run) - size + 1))]


def _elements(payload: Mapping[str, Any], field: str) -> list[Any]:
    value = payload.get(field)
    values = value if isinstance(value, list) else [value]
    return [v for v in values if v is not None]


def _ordered(value: Any) -> Any:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment


def _distance(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in metres, by the spherical law of cosines in a stable form."""
    phi1, phi2, delta = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    across = math.hypot(
        math.cos(phi2) * math.sin(delta),
        math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(delta),
    )
    along = math.sin(phi1) * math.sin(phi2) + math.cos(phi1) * math.cos(phi2) * math.cos(delta)
    return EARTH_RADIUS_M * math.atan2(across, along)
