"""Data sets of composed queries, features in files, training of the Combiner, and evaluation.

From the bottom up: `captions`, `datasets`, `feature_file` and `extract`, `evaluation`, `train`. What is known
of combiners comes from `combiner_service`, which imports nothing from here; `garments` writes data sets in
the formats of `datasets`, and nothing here imports it.
"""
