"""Scheduling: which items are preprocessed, which rows go through the model together, and what is refused."""
