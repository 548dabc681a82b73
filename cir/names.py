"""Resource names (AIP-122) between the short names of this client and the wire."""

from __future__ import annotations


def catalog_name(catalog: str) -> str:
    """`catalogs/{catalog}`."""
    return f"catalogs/{catalog}"


def version_name(catalog: str, version: str) -> str:
    """`catalogs/{catalog}/versions/{version}`."""
    return f"catalogs/{catalog}/versions/{version}"


def item_name(catalog: str, item_id: str) -> str:
    """`catalogs/{catalog}/items/{item}`; the id goes in as it is, slashes included."""
    return f"catalogs/{catalog}/items/{item_id}"


def last_part(name: str) -> str:
    """The short name: what follows the last slash. Not for items, whose ids may have slashes."""
    return name.rpartition("/")[2]
