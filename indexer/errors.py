"""Errors that end a run: nothing was published, and what was published before still serves."""


class IndexingError(Exception):
    """Base of every error that a run ends with on purpose; the message is made for people."""


class SourceError(IndexingError):
    """The folder or manifest cannot be used as a whole."""


class EmbedderFailed(IndexingError):
    """The embedder cannot be reached, stayed away for too long, or refused the model or a whole batch."""


class TooManyRejects(IndexingError):
    """Nothing could be indexed, or a larger share was rejected than the options allow."""


class VersionIncomplete(IndexingError):
    """The version that was built does not hold what was indexed."""


class LedgerError(IndexingError):
    """The ledger is in use, damaged, of another catalog, or cannot be written."""


class LedgerDamaged(LedgerError):
    """The ledger's file is not a ledger any more."""


class SyncRefused(IndexingError):
    """More would be deleted than the options allow."""


class PartsError(IndexingError):
    """Parts of a partitioned run are missing, damaged, or of another source, model or catalog."""


class CarryFailed(IndexingError):
    """Items that are not in the source cannot be taken over from the published version."""
