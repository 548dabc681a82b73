"""The writer's lease of a version on a server, kept in the metadata of its collection.

A server keeps no lock that ends with its holder, so the writer notes itself and renews the note; one that
is older than the lease, or whose process on this machine is gone, is not valid any more. The note is written
and read again after a moment, so of two that take a lease at the same time the last one has it and
the other is refused, at the latest when it renews. A writer that could not renew its note for half the lease
asks again who has it before it writes. Clocks of hosts may differ by half the lease.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from qdrant_client import AsyncQdrantClient

from vector_store.errors import StoreError, StoreLockedError, VersionNotFoundError
from vector_store.qdrant.client import engine_errors

KEY = "cir_writer"

_RENEWALS = 4
_held_here: set[str] = set()


class WriterLease:
    """The right to write one version; `name` says which, for messages."""

    def __init__(
        self, client: AsyncQdrantClient, collection: str, name: str, *, lease_s: float, confirm_s: float
    ) -> None:
        self._client = client
        self._collection = collection
        self._name = name
        self._lease_s = lease_s
        self._confirm_s = confirm_s
        self._token = uuid.uuid4().hex
        self._renewing: asyncio.Task[None] | None = None
        self._lost_to = ""
        # When the last note was made, and the one that is there, by a clock that a stopped process has, too.
        self._made = self._noted = 0.0

    def note(self) -> dict[str, Any]:
        """The metadata that holds the lease from now on."""
        self._made = monotonic()
        note = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "renewed": datetime.now(UTC).isoformat(),
        }
        return {KEY: note}

    async def is_noted(self) -> bool:
        """Return whether the collection is there with this lease in its metadata."""
        try:
            return (await self._read()).get("token") == self._token
        except VersionNotFoundError:
            return False

    def start(self) -> None:
        """Renew from now on; the note is there already."""
        _held_here.add(self._token)
        self._noted = self._made
        self._renewing = asyncio.create_task(self._renew())

    async def take(self) -> None:
        """Take the lease.

        Raises:
            StoreLockedError: another writer has it.
        """
        present = await self._read()
        if present.get("token") and _is_alive(present, self._lease_s):
            raise self._refusal(present)
        _held_here.add(self._token)
        try:
            await self._write(self.note())
            await asyncio.sleep(self._confirm_s)
            present = await self._read()
            if present.get("token") != self._token:
                raise self._refusal(present)
        except BaseException:
            _held_here.discard(self._token)
            raise
        self.start()

    def check(self) -> None:
        """Refuse to continue without the lease.

        Raises:
            StoreLockedError: another writer has taken it meanwhile.
        """
        if self._lost_to:
            raise StoreLockedError(
                f"{self._name} was taken over by {self._lost_to} while this writer was not heard of for "
                f"{self._lease_s:.0f} s; let that one finish it"
            )

    async def confirm(self) -> None:
        """Do as `check`, after asking the server."""
        await self._renew_once()
        self.check()

    async def hold(self) -> None:
        """Do as `check`, and as `confirm` where others may take the lease soon."""
        self.check()
        if monotonic() - self._noted > self._lease_s / 2:
            await self.confirm()

    async def release(self) -> None:
        """Return the lease, so that the next writer need not wait; a failure is ignored."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        self._renewing = None
        _held_here.discard(self._token)
        with suppress(StoreError):
            if (await self._read()).get("token") == self._token:
                await self._write({KEY: {"token": ""}})

    async def _renew(self) -> None:
        while not self._lost_to:
            await asyncio.sleep(self._lease_s / _RENEWALS)
            # A server that is away is no reason to stop: when it is back, the note shows who came first.
            with suppress(StoreError):
                await self._renew_once()

    async def _renew_once(self) -> None:
        present = await self._read()
        if present.get("token") == self._token:
            await self._write(self.note())
            self._noted = self._made
        else:
            self._lost_to = _holder(present)

    def _refusal(self, present: Mapping[str, Any]) -> StoreLockedError:
        return StoreLockedError(
            f"{self._name} is being written by {_holder(present)}; wait for it, stop it, or try again "
            f"when it has not been heard of for {self._lease_s:.0f} s"
        )

    async def _read(self) -> Mapping[str, Any]:
        with engine_errors(f"read the writer of {self._name}"):
            info = await self._client.get_collection(self._collection)
        return dict((info.config.metadata or {}).get(KEY) or {})

    async def _write(self, note: Mapping[str, Any]) -> None:
        with engine_errors(f"note the writer of {self._name}"):
            await self._client.update_collection(self._collection, metadata=dict(note))


async def held_by(client: AsyncQdrantClient, collection: str, lease_s: float) -> str:
    """Describe the writer that holds the collection's version now; '' for none."""
    with engine_errors(f"read the writer of collection {collection!r}"):
        info = await client.get_collection(collection)
    present = (info.config.metadata or {}).get(KEY) or {}
    return _holder(present) if present.get("token") and _is_alive(present, lease_s) else ""


def _is_alive(note: Mapping[str, Any], lease_s: float) -> bool:
    if note.get("host") == socket.gethostname():
        pid = int(note.get("pid", 0))
        if pid == os.getpid():
            # A restarted container often has the host name and process id that it had before.
            return note["token"] in _held_here
        return _runs(pid) and _is_fresh(note, lease_s)
    return _is_fresh(note, lease_s)


def _is_fresh(note: Mapping[str, Any], lease_s: float) -> bool:
    age = (datetime.now(UTC) - datetime.fromisoformat(str(note["renewed"]))).total_seconds()
    return abs(age) < lease_s


def _runs(pid: int) -> bool:
    if os.name == "nt":
        return True  # nobody can be asked there; the age of the note decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _holder(note: Mapping[str, Any]) -> str:
    if "pid" not in note:
        return "another writer, which has ended,"
    return f"process {note.get('pid', '?')} on {note.get('host', 'another host')}"
