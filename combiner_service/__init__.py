"""Combiners behind gRPC: (image features, text features) -> (unit query vector, weight of the text).

Importing this package, and serving without checkpoints, needs numpy alone; torch is imported when the
first checkpoint is read.
"""
