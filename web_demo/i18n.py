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


def choose_texts(accept_language: str, chosen: str = "") -> Texts:
    """Return the texts of the language `chosen`, else of the best in an Accept-Language header (RFC 9110).

    English where there is none of them. Traditional Chinese is for those who ask for it by script or region.
    """
    ranges: list[tuple[float, int, str]] = [(-2.0, 0, chosen)]
    for place, part in enumerate(accept_language.split(",")[:20]):
        tag, _, parameters = part.strip().partition(";")
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters.strip() else 1.0
        except ValueError:
            weight = 0.0
        ranges.append((-min(weight, 1.0), place, tag.strip()))
    for negative_weight, _, tag in sorted(ranges):
        if negative_weight < 0 and (language := _locale_of(tag)):
            return LOCALES[language]
    return LOCALES[DEFAULT_LANGUAGE]


def _locale_of(tag: str) -> str:
    """Return the name of the locale for a language tag (RFC 5646), empty where there is none."""
    language, *rest = tag.lower().split("-")
    if language == "zh" and {"hant", "tw", "hk", "mo"} & set(rest):
        return "zh-Hant"
    return language if language in LOCALES else ""
