"""Catalogs and versions on a server: what collections, their metadata and aliases say.

Nothing is remembered between calls, so any number of processes see the same.

A version is the collection `cir.<catalog>.<version>`. The alias `cir.<catalog>` points at the published
one, and `cir.<catalog>.before.0001`, `.0002`, ... at the earlier ones, oldest first. Readers see a change of
several aliases whole. A server that is killed has kept the first of them, so they come in an order in which
some version is always published. Catalog names hold no dot, so names can be read back.

The metadata of the collection `cir..given-out`, which has no points, holds the newest versions that each
catalog ever had: no id is given out twice, so that outlasts the catalogs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from vector_store.errors import (
    CatalogNotFoundError,
    StoreUnavailableError,
    VersionNotFoundError,
    newer_format,
)
from vector_store.qdrant.client import AlreadyExistsError, engine_errors
from vector_store.types import CATALOG_NAME, VersionInfo, VersionState, version_label
from vector_store.versions import (
    PublishHistory,
    image_length_of,
    is_version_name,
    spec_from_document,
    spec_to_document,
    version_number,
)

_PREFIX = "cir."
GIVEN_OUT = "cir..given-out"
"""Collection whose metadata tells which versions there were."""
# Versions of a catalog that are noted there, the newest ones.
_KEPT = 4
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
    """Read the publish history from aliases (alias to collection)."""
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


def alias_changes(
    catalog: str, present: Mapping[str, str], history: PublishHistory
) -> list[models.AliasOperations]:
    """Return the changes from the aliases that are there to those of a history; leftovers go last."""
    ours = aliases_of_history(catalog, history_from_aliases(catalog, present))
    wanted = aliases_of_history(catalog, history)
    changes: list[models.AliasOperations] = [
        # It takes the place of the one of that name.
        models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=collection, alias_name=name)
        )
        for name, collection in wanted.items()
        if present.get(name) != collection
    ]
    changes += [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))
        for name in ours
        if name in present and name not in wanted
    ]
    return changes


def _version(collection: str) -> str:
    parsed = parse_collection(collection)
    return parsed[1] if parsed else ""


# The keys of a collection's metadata that are ours, besides that of the writer's lease. A change of the
# metadata replaces the keys that it names and keeps the others, so each note has one of its own.
_KEY, _CHANGED, _NOTE = "cir", "cir_changed", "cir_note."

_FORMAT = 1
BUILDING, COMPLETE, DROPPED = "building", "complete", "dropped"


class QdrantCatalogs:
    """Catalogs and versions on the server behind `client`, and changes to them."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    async def collections(self) -> dict[str, list[str]]:
        """Versions of every catalog, oldest first, dropped ones included."""
        with engine_errors("list collections"):
            answer = await self._client.get_collections()
        found: dict[str, list[str]] = {}
        for collection in answer.collections:
            if parsed := parse_collection(collection.name):
                found.setdefault(parsed[0], []).append(parsed[1])
        return {catalog: sorted(found[catalog], key=version_number) for catalog in sorted(found)}

    async def given_out(self, catalog: str) -> list[str]:
        """Return the versions of a catalog that are noted as given out, of which the newest counts."""
        try:
            with engine_errors("read which versions there were"):
                found = await self._client.get_collection(GIVEN_OUT)
        except VersionNotFoundError:
            return []
        prefix = f"{catalog}."
        noted = found.config.metadata or {}
        return [key.removeprefix(prefix) for key in noted if key.startswith(prefix)]

    async def give_out(self, catalog: str, version: str) -> bool:
        """Note that there was a version; return False, and note nothing, where that was noted before.

        Each version has a key of its own, so of two that are noted at once none hides the other. The newest
        keep theirs, so that one which is noted late is told from one that was noted and dropped.
        """
        noted = await self.given_out(catalog)
        number, newest = version_number(version), max(map(version_number, noted), default=0)
        if version in noted or number <= newest - _KEPT:
            return False
        if not noted:
            await self._make_given_out()
        # A null removes its key.
        keys: dict[str, Any] = {
            f"{catalog}.{older}": None for older in noted if version_number(older) <= number - _KEPT
        }
        keys[f"{catalog}.{version}"] = True
        with engine_errors(f"note {version_label(catalog, version)}"):
            await self._client.update_collection(GIVEN_OUT, metadata=keys)
        return True

    async def _make_given_out(self) -> None:
        with suppress(AlreadyExistsError), engine_errors("make room for the versions there were"):
            await self._client.create_collection(
                GIVEN_OUT,
                vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT, on_disk=True),
                hnsw_config=models.HnswConfigDiff(m=0),
                optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
                shard_number=1,
            )

    async def aliases(self) -> dict[str, str]:
        """Every alias with its collection."""
        with engine_errors("list aliases"):
            answer = await self._client.get_aliases()
        return {alias.alias_name: alias.collection_name for alias in answer.aliases}

    async def history(self, catalog: str) -> PublishHistory:
        """Return the publish history; empty for a catalog that does not exist."""
        return history_from_aliases(catalog, await self.aliases())

    async def versions(self, catalog: str) -> list[VersionInfo]:
        """Return every version, oldest first.

        Raises:
            CatalogNotFoundError: the catalog has none.
        """
        names = (await self.collections()).get(catalog, [])
        history = await self.history(catalog)
        infos = await asyncio.gather(*(self._info(collection_name(catalog, v), history) for v in names))
        found = [info for info in infos if info is not None]
        if not found:
            raise CatalogNotFoundError(
                f"no catalog {catalog!r}; index it first, or list the catalogs there are"
            )
        return found

    async def version(self, catalog: str, version: str) -> VersionInfo:
        """Return one version.

        Raises:
            CatalogNotFoundError: the catalog has no version at all.
            VersionNotFoundError: it has no such version.
        """
        if CATALOG_NAME.fullmatch(catalog) and is_version_name(version):
            info = await self._info(collection_name(catalog, version), await self.history(catalog))
            if info is not None:
                return info
        await self.versions(catalog)
        raise VersionNotFoundError(f"catalog {catalog!r} has no version {version!r}")

    async def published(self, catalog: str) -> VersionInfo:
        """Return the published version, by its alias.

        Raises:
            CatalogNotFoundError: there is no such catalog, or nothing of it is published.
        """
        if CATALOG_NAME.fullmatch(catalog):
            info = await self._info(alias_name(catalog), None)
            if info is not None:
                return info
        await self.versions(catalog)
        raise CatalogNotFoundError(f"catalog {catalog!r} has no published version yet; publish one first")

    def metadata(self, info: VersionInfo, state: str) -> dict[str, Any]:
        """The metadata of a version's collection."""
        return {
            _KEY: {
                "format": _FORMAT,
                "catalog": info.catalog,
                "version": info.version,
                "created": info.created.isoformat(),
                "spec": spec_to_document(info.spec),
                "state": state,
                "image_length": info.image_length,
            }
        }

    async def set_state(self, info: VersionInfo, state: str) -> None:
        """Note that a version is complete or dropped."""
        collection = collection_name(info.catalog, info.version)
        with engine_errors(f"update {info.label}"):
            await self._client.update_collection(collection, metadata=self.metadata(info, state))

    async def mark_changed(self, info: VersionInfo) -> None:
        """Note that items of a finished version are about to be changed."""
        collection = collection_name(info.catalog, info.version)
        with engine_errors(f"change {info.label}"):
            await self._client.update_collection(collection, metadata={_CHANGED: True})

    async def notes(self, info: VersionInfo) -> dict[str, str]:
        """Return the texts that writers of a version have kept with it, by key."""
        with engine_errors(f"read the notes of {info.label}"):
            found = await self._client.get_collection(collection_name(info.catalog, info.version))
        metadata = found.config.metadata or {}
        return {key.removeprefix(_NOTE): str(text) for key, text in metadata.items() if key.startswith(_NOTE)}

    async def note(self, info: VersionInfo, notes: Mapping[str, str]) -> None:
        """Keep texts with a version, in place of those under their keys; an empty text is none."""
        if not notes:
            return
        # A null removes its key.
        changed: dict[str, Any] = {f"{_NOTE}{key}": text or None for key, text in notes.items()}
        with engine_errors(f"keep a note with {info.label}"):
            await self._client.update_collection(
                collection_name(info.catalog, info.version), metadata=changed
            )

    async def write_history(self, catalog: str, history: PublishHistory) -> None:
        """Switch a catalog's aliases in one call."""
        if changes := alias_changes(catalog, await self.aliases(), history):
            with engine_errors(f"switch catalog {catalog!r}"):
                await self._client.update_collection_aliases(change_aliases_operations=changes)

    async def remove(self, catalog: str, version: str) -> None:
        """Delete a collection; one that is gone already is ignored."""
        with engine_errors(f"drop {version_label(catalog, version)}"):
            await self._client.delete_collection(collection_name(catalog, version))

    async def dropped(self, catalog: str) -> list[str]:
        """Versions that are marked as dropped and still there."""
        names = (await self.collections()).get(catalog, [])
        documents = await asyncio.gather(*(self._document(collection_name(catalog, v)) for v in names))
        return [v for v, d in zip(names, documents, strict=True) if d is not None and d["state"] == DROPPED]

    async def _info(self, name: str, history: PublishHistory | None) -> VersionInfo | None:
        """The version behind a collection or alias, None when it is missing or dropped.

        `history` None: `name` is the alias of a published version.
        """
        try:
            document, points = await asyncio.gather(self._document(name), self._count(name))
        except VersionNotFoundError:
            return None
        if document is None or document["state"] == DROPPED:
            return None
        version = document["version"]
        state = VersionState.PUBLISHED
        if history is not None:
            state = history.state_of(version, complete=document["state"] == COMPLETE)
        return VersionInfo(
            catalog=document["catalog"],
            version=version,
            state=state,
            spec=spec_from_document(document["spec"]),
            points=points,
            created=datetime.fromisoformat(document["created"]),
            changed_online=document["changed_online"],
            image_length=image_length_of(document),
        )

    async def _document(self, name: str) -> dict[str, Any] | None:
        try:
            with engine_errors(f"read collection {name!r}"):
                info = await self._client.get_collection(name)
        except VersionNotFoundError:
            return None
        document = (info.config.metadata or {}).get(_KEY)
        if document is None:
            raise StoreUnavailableError(
                f"collection {name!r} has no metadata: it was not made by this project, or the server is "
                "older than Qdrant 1.16, which keeps none; use a newer server"
            )
        if document.get("format") != _FORMAT:
            label = f"collection {name!r}"
            raise StoreUnavailableError(newer_format(label, document.get("format"), _FORMAT))
        return {**document, "changed_online": bool((info.config.metadata or {}).get(_CHANGED))}

    async def _count(self, name: str) -> int:
        with engine_errors(f"count collection {name!r}"):
            return (await self._client.count(name, exact=True)).count
