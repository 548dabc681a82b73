"""How catalogs and versions are named in Qdrant, and the publish history as aliases.

A version is the collection `cir.<catalog>.<version>`. The alias `cir.<catalog>` points at the published
one, and `cir.<catalog>.before.0001`, `.0002`, ... at the earlier ones, oldest first. Aliases of several
collections change in one atomic call, so publishing and its history cannot come apart. Catalog names
hold no dot, so names can be read back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vector_store.catalogs import CATALOG_NAME
from vector_store.publish_history import PublishHistory
from vector_store.version_names import is_version_name

_PREFIX = "cir."
_BEFORE = re.compile(r"\.before\.(\d{4})")


def collection_name(catalog: str, version: str) -> str:
    """The collection of a version."""
    return f"{_PREFIX}{catalog}.{version}"


def alias_name(catalog: str) -> str:
    """The alias of a catalog's published version."""
    return f"{_PREFIX}{catalog}"


def parse_collection(name: str) -> tuple[str, str] | None:
    """Catalog and version of a collection; None for collections that are not ours."""
    if not name.startswith(_PREFIX):
        return None
    catalog, _, version = name.removeprefix(_PREFIX).partition(".")
    if not CATALOG_NAME.fullmatch(catalog) or not is_version_name(version):
        return None
    return catalog, version


def history_from_aliases(catalog: str, aliases: Mapping[str, str]) -> PublishHistory:
    """What the aliases (alias to collection) say was published."""
    alias = alias_name(catalog)
    before: dict[str, str] = {}
    for name, collection in aliases.items():
        if name.startswith(alias) and (match := _BEFORE.fullmatch(name[len(alias) :])):
            before[match[1]] = _version(collection)
    return PublishHistory(_version(aliases.get(alias, "")), tuple(before[key] for key in sorted(before)))


def aliases_of_history(catalog: str, history: PublishHistory) -> dict[str, str]:
    """The aliases that stand for a history: the inverse of `history_from_aliases`."""
    alias = alias_name(catalog)
    aliases = {
        f"{alias}.before.{number:04d}": collection_name(catalog, version)
        for number, version in enumerate(history.earlier, start=1)
    }
    if history.published:
        aliases[alias] = collection_name(catalog, history.published)
    return aliases


def _version(collection: str) -> str:
    parsed = parse_collection(collection)
    return parsed[1] if parsed else ""
