"""Refusals of a store, as one small family of exceptions. Services map each to one gRPC code."""


class StoreError(Exception):
    """Base of every error that a store raises on purpose."""


class CatalogNotFoundError(StoreError):
    """No catalog of that name, or a catalog without a published version."""


class VersionNotFoundError(StoreError):
    """The catalog has no such version."""


class InvalidQueryError(StoreError):
    """A vector, filter or name that this catalog cannot take; `field` names the culprit."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownFieldError(InvalidQueryError):
    """A payload field that the catalog's schema does not have."""


class WrongFieldTypeError(InvalidQueryError):
    """A value or an act that does not fit the type of its payload field."""


class VersionConflictError(StoreError):
    """The version's state forbids the act: already published, incomplete, or held by a writer."""


class FingerprintMismatchError(StoreError):
    """Vectors of another model than the catalog's; both fingerprints are in the message."""

    def __init__(self, *, expected: str, actual: str) -> None:
        super().__init__(
            f"the catalog holds vectors of model {expected}, these come from model {actual}; "
            "index the catalog again with the current model, next to the published version"
        )
        self.expected = expected
        self.actual = actual


class StoreUnavailableError(StoreError):
    """The engine cannot be reached or its data cannot be opened; trying again may help."""


class StoreLockedError(StoreUnavailableError):
    """Another process owns the data that was to be opened; the message names what to stop."""


class StoreDamagedError(StoreUnavailableError):
    """An embedded version with files that are missing or altered; the message says how to restore it."""


def damaged(label: str, problem: str) -> StoreDamagedError:
    """Return the error of a version, with what to do about it."""
    return StoreDamagedError(
        f"{label} is damaged: {problem}; roll back to an earlier version (cir catalogs rollback), restore a "
        "snapshot (cir catalogs restore), or index the catalog again"
    )


def newer_format(label: str, found: object, newest: int) -> str:
    """Return the words for what a later program has written."""
    return (
        f"{label} has format {found!r}, and this program reads formats up to {newest}: a newer version wrote "
        "it; start that one, or restore a snapshot from before the upgrade"
    )


class CopyMismatchError(StoreError):
    """A copied version is not equal to its source."""


class SnapshotDamagedError(StoreError):
    """A snapshot is incomplete or altered, or its folder cannot be used."""
