"""Scheduling: which items are prepared, which rows go through the model together, and what is refused."""
