"""A catalog of drawn garments whose attributes are known, for training and as a benchmark.

It writes the formats that `combiner_training.datasets` reads, and imports nothing else of that package.
"""
