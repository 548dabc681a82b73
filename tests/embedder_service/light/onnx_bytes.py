"""ONNX files written byte by byte: what no exporter would write."""

from __future__ import annotations


def field(number: int, value: int | bytes | str) -> bytes:
    """Return one field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Return a number in protobuf's encoding."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def node(kind: str, domain: str = "", *attributes: bytes) -> bytes:
    """Return a node of a graph."""
    given = b"".join(field(5, attribute) for attribute in attributes)
    return field(1, "x") + field(2, "y") + field(4, kind) + (field(7, domain) if domain else b"") + given


def external(location: str) -> bytes:
    """Return a tensor whose numbers are in another file."""
    entry = field(1, "location") + field(2, location)
    return field(1, 4) + field(2, 1) + field(8, "w") + field(13, entry) + field(14, 1)


def model(*nodes: bytes, tensors: tuple[bytes, ...] = (), opset: int = 18, more: bytes = b"") -> bytes:
    """Return a model."""
    graph = b"".join(field(1, each) for each in nodes) + b"".join(field(5, each) for each in tensors)
    return field(1, 10) + field(7, graph) + field(8, field(2, opset)) + more
