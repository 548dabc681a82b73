"""Page tokens of ListCombiners (AIP-158): where the page before ended, by name, so that files may come and
go between two pages without a combiner being shown twice."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from combiner_service.checkpoint_directory import PREFIX
from combiner_service.combiner import CombinerInfo

_DEFAULT_SIZE = 100
_LARGEST_SIZE = 1000
_MARK = "after:"


class InvalidPageTokenError(ValueError):
    """A token that no answer of this service held."""


class InvalidPageSizeError(ValueError):
    """A negative page size."""


def page(infos: Sequence[CombinerInfo], size: int, token: str) -> tuple[list[CombinerInfo], str]:
    """Cut a page out of all combiners (the simple ones first, then checkpoints by name).

    `size` 0 means 100, above 1000 means 1000. Returns the page and the token of the next, empty on the last.
    """
    if size < 0:
        raise InvalidPageSizeError(
            f"page_size is {size}; send 1 to {_LARGEST_SIZE}, or 0 for {_DEFAULT_SIZE}"
        )
    size = min(size or _DEFAULT_SIZE, _LARGEST_SIZE)
    start = _position_after(infos, _name(token)) if token else 0
    shown = list(infos[start : start + size])
    more = start + size < len(infos)
    return shown, _token(shown[-1].name) if more else ""


def _position_after(infos: Sequence[CombinerInfo], last: str) -> int:
    names = [info.name for info in infos]
    if last in names:
        return names.index(last) + 1
    if not last.startswith(PREFIX):
        raise InvalidPageTokenError("page_token is damaged; send the next_page_token of an answer, or none")
    # The checkpoint is gone since: go on with the first one that would have come after it.
    return sum(1 for name in names if not name.startswith(PREFIX) or name < last)


def _token(name: str) -> str:
    return base64.urlsafe_b64encode((_MARK + name).encode()).decode()


def _name(token: str) -> str:
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith(_MARK):
        raise InvalidPageTokenError("page_token is damaged; send the next_page_token of an answer, or none")
    return text.removeprefix(_MARK)
