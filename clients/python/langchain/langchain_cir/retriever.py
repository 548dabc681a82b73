"""A retriever whose query is a text, an image, or an image with the change that the text describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

import cir


class ComposedImageRetriever(BaseRetriever):
    """Documents are the items of a catalog, best first.

    The query is `text` of `cir.Client.search`, empty for an image alone; other arguments of it, such as
    `image`, `item`, `turns` and `where`, are given to `invoke`, or to all calls as `search_options`. A
    document's content is the payload field `content_field`, or the id. Errors are those of the client.
    """

    client: cir.Client
    catalog: str
    async_client: cir.AsyncClient | None = None
    k: int = Field(default=4, ge=1)
    content_field: str = ""
    search_options: Mapping[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        answer = self.client.search(self.catalog, **self._arguments(query, options))
        return [self._document(result) for result in answer]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        if self.async_client is None:
            return await super()._aget_relevant_documents(query, run_manager=run_manager, **options)
        answer = await self.async_client.search(self.catalog, **self._arguments(query, options))
        return [self._document(result) for result in answer]

    def _arguments(self, query: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"page_size": self.k, **self.search_options, **options, "text": query}

    def _document(self, result: cir.Result) -> Document:
        content = result.payload.get(self.content_field) if self.content_field else None
        own = {"id": result.id, "score": result.score, "rank": result.rank, "image": result.image}
        return Document(
            id=result.id,
            page_content=result.id if content is None else str(content),
            metadata={**result.payload, **own},
        )
