"""A small catalog that is drawn, not photographed, and queries on it."""
