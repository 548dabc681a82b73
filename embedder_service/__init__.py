"""Frozen CLIP behind gRPC: images and texts in, raw features out."""
