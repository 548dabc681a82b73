"""The command's tests talk to the same stand-in of the search service as the client's."""

from __future__ import annotations

from tests.cir.conftest import search_service

__all__ = ["search_service"]
