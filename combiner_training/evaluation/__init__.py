"""Evaluating combiners: ranks, metrics, protocols, comparisons, and files for CIRR's test server."""
