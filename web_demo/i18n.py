"""Texts of the pages: one JSON file in locales/ for each language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

Texts = Mapping[str, str]

DEFAULT_LANGUAGE = "en"
LOCALES: Mapping[str, Texts] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "locales").glob("*.json"))
}


def choose_texts(accept_language: str) -> Texts:
    """Return the texts of the best language in an Accept-Language header (RFC 9110), English otherwise."""
    ranges: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept_language.split(",")[:20]):
        tag, _, parameters = part.strip().partition(";")
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters.strip() else 1.0
        except ValueError:
            weight = 0.0
        ranges.append((-weight, place, tag.strip().lower().partition("-")[0]))
    for negative_weight, _, language in sorted(ranges):
        if negative_weight < 0 and language in LOCALES:
            return LOCALES[language]
    return LOCALES[DEFAULT_LANGUAGE]
