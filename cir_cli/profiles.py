"""Profiles: server, key and files for TLS by a name, in a file, so that no command has to repeat them.

    [profiles.default]            # where no other is asked for
    server = "search.example.com:50050"
    api_key = "cir_..."
    ca_file = "ca.pem"            # relative to the file

    [profiles.local]
    server = "127.0.0.1:50050"
    catalog = "shop"

Each key is that of an option, and of the environment variable CIR_KEY of the same name: options go before
variables, variables before the profile. API keys and files for TLS go to the address of their own profile
alone.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cir_cli.errors import Failure, WrongUsage
from cir_cli.options import DEFAULT_DATA
from cir_cli.suggestions import did_you_mean

DEFAULT_PROFILE = "default"
#: Keys of a profile in the order in which they are shown.
KEYS = (
    "server", "api_key", "ca_file", "cert_file", "key_file", "catalog",
    "embedder", "embedder_api_key", "embedder_ca_file", "embedder_cert_file", "embedder_key_file",
    "combiner_service", "store", "store_api_key", "data",
)  # fmt: skip
SECRETS = frozenset({"api_key", "embedder_api_key", "store_api_key"})
_PATHS = frozenset({*(key for key in KEYS if key.endswith("_file")), "data"})
# What belongs to the address in another key, and is of no use, or a secret, elsewhere.
_OWNERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("api_key", "ca_file", "cert_file", "key_file"), ("server",)),
    **{key: ("embedder", "combiner_service") for key in KEYS if key.startswith("embedder_")},
    "store_api_key": ("store",),
}
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def variable(key: str) -> str:
    """Return the environment variable that goes before a key of a profile."""
    return f"CIR_{key.upper()}"


def config_file() -> Path | None:
    """Return the file of the profiles, whether it is there or not; None for a user without a home."""
    if named := os.environ.get("CIR_CONFIG"):
        return _expanded(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        folder = Path(base) if base and os.path.isabs(base) else Path.home() / ".config"
    except RuntimeError:
        return None
    return folder / "cir" / "config.toml"


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise Failure(f"{text}: whose folder that is cannot be told") from error


def read_profiles(path: Path | None) -> dict[str, dict[str, str]]:
    """Return all profiles of a file; none where there is no file, or none that this user could look for.

    Raises:
        Failure: it cannot be read, or holds something else than profiles; the message names file, line and
            key. Or others may read it although it holds a key.
    """
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read().decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if isinstance(error, PermissionError) and not os.access(path.parent, os.X_OK):
            return {}  # a home that is another user's, as in containers
        raise Failure(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is no text in UTF-8") from error
    # Only here: most people have no such file.
    import tomllib

    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = f":{place[1] if place else len(text.splitlines())}"
        raise Failure(f"{path}{line}: this is no TOML: {error}") from error
    profiles = _checked(document, lambda *keys: f"{path}{_line_of(text, keys)}")
    if any(key in SECRETS for profile in profiles.values() for key in profile):
        _check_permissions(path, status)
    return {name: _with_paths(profile, path.parent) for name, profile in profiles.items()}


def _checked(document: Mapping[str, Any], at: Callable[..., str]) -> dict[str, dict[str, str]]:
    """Return the profiles of a file's content; `at` says where in the file a key is."""
    for key in document:
        if key != "profiles":
            raise Failure(f"{at(key)}: {key} is unknown; expected tables [profiles.NAME]")
    profiles = document.get("profiles", {})
    if not isinstance(profiles, dict):
        raise Failure(f"{at('profiles')}: profiles is no table; expected tables [profiles.NAME]")
    for name, profile in profiles.items():
        if not isinstance(profile, dict):
            raise Failure(f"{at('profiles', name)}: {name} is no table; expected [profiles.{name}]")
        for key, value in profile.items():
            where = at("profiles", name, key)
            if key not in KEYS:
                near = did_you_mean(key, KEYS) or f"; expected {', '.join(KEYS)}"
                raise Failure(f"{where}: {key} is unknown{near}")
            if not isinstance(value, str) or not value or not value.isprintable():
                shown = "not shown" if key in SECRETS else repr(value)
                raise Failure(f"{where}: {key} is {shown}; expected a text in quotes, on one line")
            if (owners := _OWNERS.get(key)) and owners[0] not in profile:
                raise Failure(f"{where}: {key} needs {owners[0]} in the same profile, to which alone it goes")
    return profiles


def _line_of(text: str, keys: tuple[str, ...]) -> str:
    """Return ":LINE" of the first line that is about a key below tables, or of the one that comes nearest."""
    table: tuple[str, ...] = ()
    nearest, most = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("["):
            path = table = _path_in(line)
        else:
            path = (*table, *_path_in(f"{line.partition('=')[0]}=0"))
        common = next((at for at, pair in enumerate(zip(path, keys, strict=False)) if len({*pair}) > 1), None)
        if (shared := min(len(path), len(keys)) if common is None else common) > most:
            nearest, most = f":{number}", shared
    return nearest


def _path_in(line: str) -> tuple[str, ...]:
    """Return the keys that a line of TOML goes down, such as ("profiles", "default") of a table's head."""
    import tomllib

    try:
        below: Any = tomllib.loads(line)
    except ValueError:
        return ()
    path: list[str] = []
    while isinstance(below, dict) and below:
        [(key, below)] = below.items()
        path.append(key)
    return tuple(path)


def _check_permissions(path: Path, status: os.stat_result) -> None:
    """Refuse a file with a key that is not its owner's alone, as ssh does. Windows has no such bits."""
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise Failure(f"{path} holds a key and belongs to another user (id {status.st_uid}); it is not used")
    if mode := status.st_mode & _READABLE_BY_OTHERS:
        raise Failure(
            f"{path} holds a key, and others may use the file (mode {stat.S_IMODE(status.st_mode):04o}, too "
            f"much by {mode:04o}); run: chmod 600 {path}"
        )


def _with_paths(profile: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {key: str(folder / _expanded(value)) if key in _PATHS else value for key, value in profile.items()}


class Chosen:
    """The profile of a command, read when it is first needed: many commands need none."""

    def __init__(self, name: str | None) -> None:
        self._asked = name

    @property
    def name(self) -> str:
        """Name of the profile."""
        return self._asked or DEFAULT_PROFILE

    @cached_property
    def profiles(self) -> dict[str, dict[str, str]]:
        """All profiles of the file.

        Raises:
            Failure: as `read_profiles`, or CIR_CONFIG names a file that is not there.
        """
        path = config_file()
        if os.environ.get("CIR_CONFIG") and path is not None and not os.path.lexists(path):
            raise WrongUsage(f"there is no file {path}, which CIR_CONFIG names")
        return read_profiles(path)

    @cached_property
    def values(self) -> dict[str, str]:
        """The keys of the profile.

        Raises:
            Failure: as `read_profiles`, or there is no profile of the name that was asked for.
        """
        if self.name in self.profiles:
            return self.profiles[self.name]
        if self._asked:
            near = did_you_mean(self.name, self.profiles)
            known = near or f"; there are: {', '.join(self.profiles) or 'none'}"
            raise WrongUsage(
                f"{config_file() or 'a user without a home'} has no profile {self.name!r}{known}"
            )
        return {}

    def data(self, given: Mapping[str, Any]) -> Path:
        """Return the data directory whose services a command without --server is about."""
        return Path(
            given.get("data") or os.environ.get(variable("data")) or self.value("data", given) or DEFAULT_DATA
        )

    def value(self, key: str, given: Mapping[str, Any]) -> str | None:
        """Return a key's value for a command whose options are `given` so far.

        None for what belongs to another address than the one that is given.
        """
        elsewhere = any(
            given.get(owner) and given[owner] != self.values.get(owner) for owner in _OWNERS.get(key, ())
        )
        return None if elsewhere else self.values.get(key)
