"""API keys with their scopes, catalogs and rates: checked before anything else is done for a call.

Keys come from a file of hashes and from the environment. Each has a name and a scope, and those of a file may
be for some catalogs alone."""

from __future__ import annotations

import hmac
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from cir.channel import HEADER, digest
from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError, StartupError
from service_runtime.rate_limit import TokenBuckets, peer_name
from service_runtime.settings import ServiceSettings
from service_runtime.watched_files import WatchedFiles, read_bytes

MIN_KEY_CHARACTERS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CATALOGS = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\*?")
_FIELDS = {"name", "scope", "sha256"}
_OPTIONAL_FIELDS = {"catalogs"}

# Of the call being served: its key, and the name that its caller is counted under.
_current: ContextVar[tuple[ApiKey | None, str]] = ContextVar("caller", default=(None, ""))


class Scope(Enum):
    """Extent of a key; `WRITE` includes `READ`."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is accepted. Several may have one name: the old and the new one while a key is changed."""

    name: str
    scope: Scope
    #: SHA-256 of the key.
    digest: bytes = field(repr=False)
    #: Catalogs that the key is for: names, and beginnings of names that end in "*". None: all.
    catalogs: tuple[str, ...] | None = None

    def is_for(self, catalog: str) -> bool:
        """Return True when the key may be used for a catalog."""
        return self.catalogs is None or any(
            catalog.startswith(name[:-1]) if name.endswith("*") else catalog == name for name in self.catalogs
        )


class KeyRing:
    """All keys of a service. A changed file counts from about a second after its change."""

    def __init__(self, direct: Sequence[ApiKey], file: WatchedFiles[tuple[ApiKey, ...]] | None) -> None:
        self._direct = tuple(direct)
        self._file = file

    def find(self, key: str) -> ApiKey | None:
        """Return the entry of a key that was sent, None for an unknown one.

        Takes the same time for every key: hashes are compared, in constant time, with all entries.
        """
        sent = digest(key)
        found: ApiKey | None = None
        for entry in (*self._direct, *(self._file.current() if self._file else ())):
            if hmac.compare_digest(entry.digest, sent):
                found = entry
        return found


def load_key_ring(settings: ServiceSettings) -> KeyRing | None:
    """Return the keys of the settings, None where they name none and calls need no key.

    Raises:
        StartupError: keys that cannot be read.
    """
    direct = parse_keys(settings.api_keys.get_secret_value())
    path = settings.api_keys_file
    if path is None:
        return KeyRing(direct, None) if direct else None
    return KeyRing(direct, WatchedFiles("API keys", [path], lambda: read_key_file(path)))


def parse_keys(text: str) -> list[ApiKey]:
    """Parse keys for all catalogs: "name:scope:key", separated by commas.

    Raises:
        StartupError: an entry of another form; the message quotes no key.
    """
    keys: list[ApiKey] = []
    for number, entry in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        name, _, rest = entry.partition(":")
        scope, _, key = rest.partition(":")
        where = f"api_keys entry {number}"
        if not key:
            raise StartupError(f"{where} is not of the form name:scope:key")
        if len(key) < MIN_KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
            raise StartupError(
                f"{where} has a key that can be guessed or not be sent; use at least {MIN_KEY_CHARACTERS} "
                "printable ASCII characters, as `cir keys new` makes them"
            )
        keys.append(ApiKey(_name(where, name), _scope(where, scope), digest(key)))
    return _distinct("api_keys", keys)


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """Read the keys of a TOML file, or of a JSON file by its suffix.

    Raises:
        StartupError: a file that is unreadable, without a key or with a faulty one; it quotes no content.
    """
    content = read_bytes("api_keys_file", path)
    try:
        text = content.decode()
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError:  # of either reader; its text may quote the file
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise StartupError(f"api_keys_file {path} is not {kind} in UTF-8") from None
    entries = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries or set(data) != {"keys"}:
        raise StartupError(
            f"api_keys_file {path} needs a list `keys` with at least one entry, and nothing else; "
            "`cir keys new` prints entries"
        )
    keys = [_entry(f"api_keys_file {path}: entry {number}", entry) for number, entry in enumerate(entries, 1)]
    return tuple(_distinct(f"api_keys_file {path}", keys))


def _entry(where: str, entry: object) -> ApiKey:
    # Fields that are not known are refused: one of a newer version may narrow what the key is for.
    if not isinstance(entry, dict) or not _FIELDS <= set(entry) <= _FIELDS | _OPTIONAL_FIELDS:
        raise StartupError(
            f"{where} needs the fields name, scope and sha256, may have catalogs, and has no others"
        )
    if not all(isinstance(entry[name], str) for name in _FIELDS):
        raise StartupError(f"{where} needs texts for name, scope and sha256")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", entry["sha256"]):
        raise StartupError(f"{where} needs 64 hexadecimal digits as sha256, not the key itself")
    return ApiKey(
        _name(where, entry["name"]),
        _scope(where, entry["scope"]),
        bytes.fromhex(entry["sha256"]),
        _catalogs(where, entry["catalogs"]) if "catalogs" in entry else None,
    )


def _name(where: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StartupError(
            f"{where} needs a name of up to 64 letters, digits, '.', '_' and '-' (it appears in logs)"
        )
    return name


def _scope(where: str, scope: str) -> Scope:
    try:
        return Scope(scope)
    except ValueError:
        raise StartupError(f"{where} needs the scope read or write") from None


def _catalogs(where: str, names: object) -> tuple[str, ...]:
    # An empty list is refused: it reads as "none" and as "no limit".
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) and _CATALOGS.fullmatch(name) for name in names)
    ):
        raise StartupError(
            f'{where} needs a list of at least one name as catalogs, such as ["shop", "acme-*"] ("*" only at '
            "an end); leave catalogs out for a key for all"
        )
    return tuple(names)


def _distinct(where: str, keys: list[ApiKey]) -> list[ApiKey]:
    if len({key.digest for key in keys}) < len(keys):
        raise StartupError(f"{where} has one key twice; every entry needs another key")
    return keys


def current_key() -> ApiKey | None:
    """Return the entry of the key of the call being served, None where no keys are used."""
    return _current.get()[0]


def current_caller() -> str:
    """Return the name that the caller of the call being served is counted under: of its key or address."""
    return _current.get()[1]


class Authenticator:
    """Keys, scopes and rates of one service."""

    def __init__(
        self,
        *,
        keys: KeyRing | None = None,
        buckets: TokenBuckets | None = None,
        write_methods: Collection[str] = (),
    ) -> None:
        self._keys = keys
        self._buckets = buckets
        self._write_methods = frozenset(write_methods)

    def authenticate(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]] | None
    ) -> ApiKey | ServiceError | None:
        """Return the key's entry, the reason to refuse the call, or None where no keys are used.

        Needs only the call's metadata, so that a refused call costs no reading of its message.
        """
        if self._keys is None:
            return None
        sent = next((value for name, value in metadata or () if name == HEADER), None)
        if not isinstance(sent, str):
            return ServiceError(
                pb.KEY_MISSING,
                f"an API key is needed; send one as `{HEADER}`, metadata of gRPC and a header of HTTP, where "
                "`Authorization: Bearer` is taken too",
            )
        key = self._keys.find(sent)
        if key is None:
            return ServiceError(
                pb.KEY_MISSING, "the API key is not known; ask the operator of this service for one"
            )
        if method in self._write_methods and key.scope is not Scope.WRITE:
            return ServiceError(
                pb.SCOPE_MISSING,
                f"the API key {key.name} has the scope {key.scope.value}, this call needs write; "
                "use a key of the scope write",
            )
        return key

    def check_rate(self, key: ApiKey | None, peer: str) -> None:
        """Count the call against its key's or its peer's rate.

        Raises:
            ServiceError: RATE_LIMITED, with the seconds until the next call is accepted.
        """
        if self._buckets is None:
            return
        caller = f"key {key.name}" if key is not None else f"peer {peer_name(peer)}"
        wait = self._buckets.take(caller)
        if wait:
            raise ServiceError(
                pb.RATE_LIMITED,
                f"{caller} sends more calls than its rate allows; the next is accepted in {wait:.3f} s",
                retry_after=wait,
            )


def create_authenticator(settings: ServiceSettings, write_methods: Collection[str]) -> Authenticator:
    """Create the authenticator that the settings describe.

    Raises:
        StartupError: keys that cannot be read.
    """
    rate = settings.rate_limit_per_second
    return Authenticator(
        keys=load_key_ring(settings),
        buckets=TokenBuckets(rate, settings.rate_limit_burst) if rate else None,
        write_methods=write_methods,
    )


@contextmanager
def caller_context(key: ApiKey | None, caller: str = "") -> Iterator[None]:
    """Have `current_key` and `current_caller` return these within the block."""
    token = _current.set((key, caller))
    try:
        yield
    finally:
        try:
            _current.reset(token)
        except ValueError:
            # A stream that is torn down is closed from another context; that context goes with it.
            _current.set((None, ""))
