"""Write http_gateway/openapi.json out of protos/ and http.toml, or with --check report whether it is stale.

Usage: python scripts/generate_openapi.py [--check]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from cir._version import __version__
from http_gateway.openapi import build

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "http_gateway" / "openapi.json"


def comments() -> dict[str, str]:
    """Return the comments of the contract by the full name of what they stand on."""
    protos = ROOT / "protos"
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "contract"
        arguments = [
            "protoc",
            f"--proto_path={protos}",
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            "--include_source_info",
            f"--descriptor_set_out={written}",
            *sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto")),
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed; its message is above")
        files = FileDescriptorSet.FromString(written.read_bytes()).file
    return {name: text for file in files for name, text in _comments(file)}


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        text = " ".join(location.leading_comments.split())
        name = _name(file, location.path)
        if text and name:
            yield f"{file.package}.{name}", text


def _name(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """Return what a path of numbers stands on: messages, enums, services, and what is in them."""
    parts: list[str] = []
    place: object = file
    for number, index in zip(path[::2], path[1::2], strict=False):
        field = next((f for f in type(place).DESCRIPTOR.fields if f.number == number), None)  # type: ignore[attr-defined]
        if field is None or field.message_type is None or not field.is_repeated:
            return ""
        place = getattr(place, field.name)[index]
        name = getattr(place, "name", "")
        if not name:
            return ""
        parts.append(name)
    return ".".join(parts) if len(path) % 2 == 0 else ""


def main(arguments: list[str]) -> int:
    """Write the file, or compare; return the exit code."""
    text = json.dumps(build(comments(), __version__), indent=1, ensure_ascii=False) + "\n"
    if "--check" not in arguments:
        TARGET.write_text(text)
        return 0
    if TARGET.is_file() and TARGET.read_text() == text:
        return 0
    print("http_gateway/openapi.json is stale; run: make protos", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
