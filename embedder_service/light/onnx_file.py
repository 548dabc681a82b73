"""Contents of an ONNX file, read from its bytes before any runtime opens it.

A file from a stranger may name files elsewhere, operators that bring code along, or be cut short. The few
fields that tell are read here by their numbers in onnx.proto; weights are passed over, not copied.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service_runtime.errors import StartupError

#: Versions of ONNX's own operators that are read.
OPSETS = range(11, 24)
# Names of ONNX's own operators.
_OWN_DOMAINS = frozenset({"", "ai.onnx"})
# Field numbers of onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, and so on.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS = 7, 8, 25
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_NODE_KIND, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_BYTES, _TENSOR_EXTERNAL, _ENTRY_KEY, _ENTRY_VALUE = 9, 13, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Graphs in graphs, of loops and branches; no tower has them.
_MAX_DEPTH = 8


@dataclass(slots=True)
class OnnxFile:
    """The opset, operators that are not ONNX's own, files that weights are kept in, and bytes of tensors."""

    opset: int = 0
    nodes: int = 0
    foreign: set[str] = field(default_factory=set)
    external: set[str] = field(default_factory=set)
    tensors: list[memoryview] = field(default_factory=list)


def map_tensors(path: Path) -> list[memoryview]:
    """Return the bytes of the tensors of a file that `check_onnx` took, which lie in the file until read."""
    with path.open("rb") as stream:
        # What is written to them, if anything, does not come into the file.
        return _read(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))).tensors


def check_onnx(path: Path) -> OnnxFile:
    """Read what a file holds, and refuse what is not computed here.

    Raises:
        StartupError: the file is missing, cut short or no ONNX file, has operators that are not ONNX's own or
            are of a version that is not read, or names a file outside its own folder.
    """
    try:
        with path.open("rb") as stream:
            # Closed with its last part: an error may still hold some.
            found = _read(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OSError, ValueError, IndexError) as error:
        if isinstance(error, OSError) and not path.is_file():
            raise StartupError(
                f"{path} is missing; a model folder has visual/model.onnx and textual/model.onnx: export "
                "the model again"
            ) from error
        raise StartupError(
            f"{path} is no whole ONNX file ({error}); copy it again, or export the model again"
        ) from error
    if not found.nodes:
        raise StartupError(f"{path} is no ONNX file, or has nothing to compute; export the model again")
    if found.foreign:
        raise StartupError(
            f"{path} has operators that are not ONNX's own ({', '.join(sorted(found.foreign)[:3])}), whose "
            "code is never loaded; export the model with ONNX's operators alone"
        )
    if found.opset not in OPSETS:
        raise StartupError(
            f"{path} has opset {found.opset}; opsets {OPSETS.start} to {OPSETS.stop - 1} are read: export "
            "the model again with one of them"
        )
    for name in sorted(found.external):
        _check_external(path, name)
    return found


def _check_external(path: Path, name: str) -> None:
    folder = path.parent.resolve()
    place = (path.parent / name).resolve()
    if not name or not place.is_relative_to(folder):
        raise StartupError(
            f"{path} keeps weights in {name!r}, outside its own folder, which is not read; export the model "
            "again with its weights beside it"
        )
    if not place.is_file():
        raise StartupError(f"{path} keeps weights in {name!r}, which is missing; copy the whole folder")


def _read(content: memoryview) -> OnnxFile:
    found = OnnxFile()
    for number, value in _fields(content):
        if number == _MODEL_GRAPH:
            _graph(_part(value), found, 0)
        elif number == _MODEL_OPSET:
            domain, version = "", 0
            for inner, given in _fields(_part(value)):
                if inner == _OPSET_DOMAIN:
                    domain = _text(given)
                elif inner == _OPSET_VERSION and isinstance(given, int):
                    version = given
            if domain in _OWN_DOMAINS:
                found.opset = version
        elif number == _MODEL_FUNCTIONS:
            found.foreign.add("functions of its own")
    return found


def _graph(content: memoryview, found: OnnxFile, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs lie too deep in one another")
    for number, value in _fields(content):
        if number == _GRAPH_NODE:
            _node(_part(value), found, depth)
        elif number == _GRAPH_TENSOR:
            _tensor(_part(value), found)
        elif number == _GRAPH_SPARSE:
            for _, tensor in _fields(_part(value)):
                if isinstance(tensor, memoryview):
                    _tensor(tensor, found)


def _node(content: memoryview, found: OnnxFile, depth: int) -> None:
    found.nodes += 1
    kind = domain = ""
    for number, value in _fields(content):
        if number == _NODE_KIND:
            kind = _text(value)
        elif number == _NODE_DOMAIN:
            domain = _text(value)
        elif number == _NODE_ATTRIBUTE:
            for inner, given in _fields(_part(value)):
                if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _tensor(_part(given), found)
                elif inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    _graph(_part(given), found, depth + 1)
    if domain not in _OWN_DOMAINS:
        found.foreign.add(f"{domain}.{kind}")


def _tensor(content: memoryview, found: OnnxFile) -> None:
    for number, value in _fields(content):
        if number == _TENSOR_BYTES:
            found.tensors.append(_part(value))
        elif number == _TENSOR_EXTERNAL:
            entry = {inner: _text(given) for inner, given in _fields(_part(value))}
            if entry.get(_ENTRY_KEY) == "location":
                found.external.add(entry.get(_ENTRY_VALUE, ""))


def _part(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a field has another type than in onnx.proto")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_part(value)[:1024]).decode("utf-8", errors="replace")


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message in protobuf's encoding.

    Raises:
        ValueError: The bytes are no such message, or end too early.
    """
    place, end = 0, len(content)
    while place < end:
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(content, place)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("its bytes are not in protobuf's encoding")
        if length > end - place:
            raise ValueError("it ends too early")
        if kind == _BYTES:
            yield number, content[place : place + length]
        place += length


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(content):
            raise ValueError("it ends too early")
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("its bytes are not in protobuf's encoding")
