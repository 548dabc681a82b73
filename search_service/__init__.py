"""The front door: composed, turn-based, filtered search over a vector store."""
