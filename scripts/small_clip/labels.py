"""The labels of the clothing photos, the words for them, and the kinds of drawn garments they share."""

from __future__ import annotations

from collections.abc import Mapping

KIND_OF_LABEL: Mapping[str, str] = {
    "T-Shirt": "t-shirt",
    "Longsleeve": "long-sleeved shirt",
    "Pants": "trousers",
    "Shoes": "shoe",
    "Shirt": "shirt",
    "Dress": "dress",
    "Shorts": "shorts",
    "Outwear": "jacket",
    "Hat": "hat",
    "Skirt": "skirt",
    "Undershirt": "undershirt",
    "Hoodie": "hoodie",
    "Polo": "polo shirt",
    "Blazer": "blazer",
    "Body": "bodysuit",
    "Top": "top",
    "Blouse": "blouse",
}
PHOTO_KINDS = ("shirt", "jacket", "undershirt", "polo shirt", "blazer", "bodysuit", "top", "blouse")
"""Kinds that drawn garments do not have."""

OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    "trousers": ("pants",),
    "shoe": ("shoes", "a pair of shoes"),
    "long-sleeved shirt": ("a longsleeve", "a long sleeve shirt"),
    "jacket": ("outerwear", "a jacket or coat"),
    "t-shirt": ("a tee", "a tshirt"),
}
"""Other words for a kind, each with its article."""
