"""An upload: a version that is created, filled, finished and published. Both clients carry the steps out."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cir import create, requests
from cir.create import IndexSettings
from cir.errors import FailedPrecondition, InvalidArgument, NotFound
from cir.imports import Imported
from cir.models import ItemError
from cir.requests import Call


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The version that an upload made, whether it is published, and what became of the items."""

    version: str
    published: bool
    done: int
    written: int
    rejected: int
    errors: tuple[ItemError, ...] = ()


@dataclass(frozen=True, slots=True)
class Importing:
    """The step in which the items are written; its answer is `Imported`."""

    version: str
    token: str


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """An upload without its items. `resume` is the file that remembers it until it is done."""

    catalog: str
    schema: Mapping[str, str] | None
    index: IndexSettings | None
    resume: str | os.PathLike[str] | None
    publish: bool
    max_reject_share: float
    finish_timeout: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_reject_share <= 1:
            raise InvalidArgument(
                f"max_reject_share is {self.max_reject_share}; expected 0 to 1", field="max_reject_share"
            )


Steps = Generator[Call[Any] | Importing, Any, Uploaded]


def upload_steps(options: UploadOptions, token: str) -> Steps:
    """Yield what is to be done next, and take its answer; errors of calls are thrown in.

    Raises:
        FailedPrecondition: nothing was written, or more was rejected than `max_reject_share` allows.
        InvalidArgument: the file to resume by is of another upload.
    """
    kept, state = _Kept.read(options), ""
    errors: tuple[ItemError, ...] = ()
    if kept is not None:
        state = yield from _state(options.catalog, kept.version)
    if kept is None or not state:
        version = yield from _create(options)
        kept, state = _Kept(options.catalog, version, token), "building"
        kept.write(options)
    if state == "building":
        imported: Imported = yield Importing(kept.version, kept.token)
        kept.done, kept.written, kept.rejected = imported.done, imported.written, imported.rejected
        _check(imported, kept.version, options.max_reject_share)
        kept.write(options)
        errors = imported.errors
        yield create.finish_version(options.catalog, kept.version, timeout=options.finish_timeout)
        state = "ready"
    if options.publish and state == "ready":
        yield requests.publish(options.catalog, kept.version)
        state = "published"
    kept.forget(options)
    return Uploaded(kept.version, state == "published", kept.done, kept.written, kept.rejected, errors)


@dataclass(slots=True)
class _Kept:
    """Content of the file by which an upload is resumed."""

    catalog: str
    version: str
    token: str
    done: int = 0
    written: int = 0
    rejected: int = 0

    @classmethod
    def read(cls, options: UploadOptions) -> _Kept | None:
        if options.resume is None:
            return None
        path = Path(options.resume)
        try:
            kept = cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise InvalidArgument(
                f"{path} is no file of an upload ({error}); give another one", field="resume"
            ) from error
        if kept.catalog != options.catalog:
            raise InvalidArgument(
                f"{path} is of an upload into catalog {kept.catalog!r}; give each upload a file of its own",
                field="resume",
            )
        return kept

    def write(self, options: UploadOptions) -> None:
        if options.resume is None:
            return
        path = Path(options.resume)
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            beside.write_text(json.dumps(asdict(self)), encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise InvalidArgument(f"{path} cannot be written: {error}", field="resume") from error

    def forget(self, options: UploadOptions) -> None:
        if options.resume is not None:
            Path(options.resume).unlink(missing_ok=True)


def _state(catalog: str, version: str) -> Generator[Call[Any], Any, str]:
    """Return the state of a version, empty where it is gone."""
    call = requests.list_versions(catalog)
    while True:
        try:
            page = yield call
        except NotFound:
            return ""
        for found in page.entries:
            if found.name == version:
                return str(found.state)
        if not page.next_page_token:
            return ""
        call = call.next_page(page.next_page_token)


def _create(options: UploadOptions) -> Generator[Call[Any], Any, str]:
    """Create a version, and its catalog where there is none; return its name."""
    schema, index = options.schema, options.index
    try:
        version = yield create.create_version(options.catalog, schema=schema, index=index)
    except NotFound:
        yield create.create_catalog(options.catalog, schema=schema, index=index)
        version = yield create.create_version(options.catalog, schema=schema, index=index)
    return str(version.name)


def _check(imported: Imported, version: str, max_reject_share: float) -> None:
    if imported.written and imported.rejected <= max_reject_share * imported.done:
        return
    why = f"; the first: {imported.errors[0].message}" if imported.errors else ""
    what = (
        "no item was written"
        if not imported.written
        else f"{imported.rejected} of {imported.done} were rejected"
    )
    raise FailedPrecondition(
        f"{what}, so version {version} is not published (max_reject_share is {max_reject_share:g}){why}"
    )
