"""MCP server of composed image retrieval."""
