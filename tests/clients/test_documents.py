"""What clients share stands once: the service config, first programs, the messages of the contract."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from cir._version import __version__
from cir.channel import OPTIONS
from cir.combiner.v1 import combiner_pb2
from cir.common.v1 import errors_pb2, model_pb2, payload_pb2, vectors_pb2
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import catalog_pb2, filter_pb2, search_pb2

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "clients"
DOCUMENT = (ROOT / "docs" / "clients.md").read_text()
MODULES = (
    *(combiner_pb2, embedder_pb2, catalog_pb2, filter_pb2, search_pb2),
    *(errors_pb2, model_pb2, payload_pb2, vectors_pb2),
)


def block(text: str, language: str) -> str:
    """Return the first block of code of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, language
    return found.group(1)


def _forget_json_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _forget_json_names(message.nested_type)


def test_the_document_has_the_service_config_of_the_python_client() -> None:
    assert json.loads(block(DOCUMENT, "json")) == json.loads(dict(OPTIONS)["grpc.service_config"])


def test_every_client_brings_that_service_config() -> None:
    copies = [path for path in CLIENTS.rglob("service_config.json") if "node_modules" not in path.parts]
    assert {path.parent for path in copies} == {path for path in CLIENTS.iterdir() if path.is_dir()}
    for path in copies:
        assert json.loads(path.read_text()) == json.loads(block(DOCUMENT, "json")), path


def test_the_package_for_node_has_the_version_of_the_project() -> None:
    package = json.loads((CLIENTS / "typescript" / "package.json").read_text())
    lock = json.loads((CLIENTS / "typescript" / "package-lock.json").read_text())
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == __version__


@pytest.mark.parametrize(
    ("folder", "language", "program"), [("go", "go", "main.go"), ("typescript", "ts", "first.ts")]
)
def test_the_first_program_of_the_readme_is_the_one_that_is_compiled(
    folder: str, language: str, program: str
) -> None:
    client = CLIENTS / folder
    assert block((client / "README.md").read_text(), language) == (client / "example" / program).read_text()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_generated_code_holds_the_messages_of_today(module: Any) -> None:
    kept = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(kept)
    for found in (_in_go(module.DESCRIPTOR.name), _in_typescript(module.DESCRIPTOR.name)):
        # One compiler spells the names in JSON out, the others leave them to the reader.
        _forget_json_names(found.message_type)
        _forget_json_names(kept.message_type)
        assert list(found.message_type) == list(kept.message_type), "run `make clients`"
        assert list(found.enum_type) == list(kept.enum_type), "run `make clients`"
        assert list(found.service) == list(kept.service), "run `make clients`"


def _in_go(name: str) -> descriptor_pb2.FileDescriptorProto:
    source = (CLIENTS / "go" / "gen" / name.replace(".proto", ".pb.go")).read_text()
    literal = re.search(r'_rawDesc = "" \+\n((?:\t".*"(?: \+)?\n)+)', source)
    assert literal is not None
    # Go writes bytes as Python does.
    lines = [line.strip().removesuffix(" +") for line in literal.group(1).splitlines()]
    return descriptor_pb2.FileDescriptorProto.FromString(
        b"".join(ast.literal_eval("b" + line) for line in lines)
    )


def _in_typescript(name: str) -> descriptor_pb2.FileDescriptorProto:
    source = (CLIENTS / "typescript" / "src" / "gen" / name.replace(".proto", "_pb.ts")).read_text()
    packed = re.search(r'fileDesc\("([^"]+)"', source)
    assert packed is not None
    return descriptor_pb2.FileDescriptorProto.FromString(
        base64.b64decode(packed.group(1) + "=" * (-len(packed.group(1)) % 4))
    )
