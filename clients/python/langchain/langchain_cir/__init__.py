"""LangChain retriever of composed image retrieval."""

from langchain_cir.retriever import ComposedImageRetriever

__all__ = ["ComposedImageRetriever"]
