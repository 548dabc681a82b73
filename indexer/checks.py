"""What must hold before anything is deleted or published. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from indexer.base import Base
from indexer.errors import CarryFailed, SyncRefused, TooManyRejects, VersionIncomplete
from indexer.options import IndexingOptions
from indexer.report import Tally, reasons_text


def check_counts(tally: Tally, rejects_path: Path, options: IndexingOptions) -> None:
    """Raise unless everything that was read is accounted for, and enough of it is usable."""
    found = tally.found
    if found != tally.done:
        raise VersionIncomplete(
            f"{found} items were read, but {tally.indexed} indexed, {tally.unchanged} unchanged and "
            f"{tally.rejected} rejected"
        )
    if not found:
        raise TooManyRejects("the source gave no items; nothing was published")
    if tally.rejected == found:
        raise TooManyRejects(
            f"all {found} items were rejected ({reasons_text(tally.rejects)}); nothing was published. "
            f"See {rejects_path}"
        )
    if tally.rejected > options.max_reject_share * found:
        raise TooManyRejects(
            f"{tally.rejected} of {found} items were rejected ({reasons_text(tally.rejects)}), more "
            f"than the share of {options.max_reject_share:g} that is allowed; nothing was published. "
            f"See {rejects_path}, or raise --max-reject-share"
        )


def check_deletions(base: Base | None, missing: Sequence[str], options: IndexingOptions) -> None:
    """Raise `SyncRefused` when a synchronisation would delete more than is allowed."""
    if base is None or not options.sync or options.allow_delete or not missing:
        return
    points = max(base.info.points, 1)
    if len(missing) >= points or len(missing) > options.max_delete_share * points:
        raise SyncRefused(
            f"{len(missing)} of {base.info.points} items of version {base.info.version} are not in the "
            f"source (such as {missing[0]!r}), more than the share of {options.max_delete_share:g} that may "
            "be deleted; nothing was changed. Check the source; --allow-delete deletes them, "
            "--max-delete-share raises the share"
        )


def check_model(base: Base | None, fits: bool, missing: Sequence[str], options: IndexingOptions) -> None:
    """Raise `CarryFailed` when items would have to stay whose vectors are of another model."""
    if base is None or fits or options.sync or not missing:
        return
    raise CarryFailed(
        f"{len(missing)} items of version {base.info.version} are not in the source (such as "
        f"{missing[0]!r}), and their vectors are of model {base.info.spec.model_fingerprint}, "
        "which is not the embedder's; nothing was changed. Put them into the source, or leave them "
        "out with --sync"
    )
