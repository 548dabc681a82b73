"""Frozen CLIP behind gRPC: pictures and texts in, raw features out."""
