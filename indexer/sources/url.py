"""Images of items that lie on the web."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.rejects import IMAGE_MISSING, IMAGE_TOO_MANY_BYTES, URL_FAILED, URL_NOT_ALLOWED
from indexer.sources.base import FileStat, ImageError, ImageRef, check_content
from service_runtime.web_images import FetchError, Fetching, FetchProblem

_REASONS = {
    FetchProblem.NOT_ALLOWED: URL_NOT_ALLOWED,
    FetchProblem.MISSING: IMAGE_MISSING,
    FetchProblem.TOO_MANY_BYTES: IMAGE_TOO_MANY_BYTES,
    FetchProblem.FAILED: URL_FAILED,
}


@dataclass(frozen=True, slots=True)
class UrlImage(ImageRef):
    """An image at an http:// or https:// address; fetched anew in every run, and compared by its bytes."""

    url: str
    fetching: Fetching

    def stat(self) -> FileStat:
        return FileStat()

    def read(self, max_bytes: int) -> bytes:
        try:
            return check_content(self.fetching.fetch(self.url, max_bytes), max_bytes)
        except FetchError as error:
            raise ImageError(_REASONS[error.problem], str(error), error.read) from error

    def __str__(self) -> str:
        return self.url
