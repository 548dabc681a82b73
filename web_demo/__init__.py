"""The turn-based demo: a web server that talks to the search service only."""
