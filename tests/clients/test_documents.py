"""What clients share stands once: the service config, first programs, the messages of the contract."""

from __future__ import annotations

import ast
import base64
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

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


@pytest.mark.parametrize("client", ["cir", "clients/go", "clients/typescript", "clients/java"])
def test_every_client_brings_the_service_config(client: str) -> None:
    kept = (ROOT / client / "service_config.json").read_bytes()
    assert kept == (CLIENTS / "service_config.json").read_bytes(), "run `make clients`"


def test_the_package_for_node_has_the_version_of_the_project() -> None:
    package = json.loads((CLIENTS / "typescript" / "package.json").read_text())
    lock = json.loads((CLIENTS / "typescript" / "package-lock.json").read_text())
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == __version__


@pytest.mark.parametrize("folder", ["langchain", "mcp"])
def test_companions_have_the_version_of_the_project(folder: str) -> None:
    project = tomllib.loads((CLIENTS / "python" / folder / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert project["dependencies"][0] == f"composed-image-retrieval-client=={__version__}"


def test_the_artifact_for_java_has_the_version_of_the_project() -> None:
    project = ElementTree.parse(CLIENTS / "java" / "pom.xml").getroot()
    assert project.findtext("{*}version") == __version__
    assert f"<version>{__version__}</version>" in (CLIENTS / "java" / "README.md").read_text()


@pytest.mark.parametrize(
    ("folder", "language", "program"),
    [
        ("go", "go", "examples/first/main.go"),
        ("typescript", "ts", "example/first.ts"),
        ("java", "java", "src/test/java/example/First.java"),
    ],
)
def test_the_first_program_of_the_readme_is_short_and_the_one_that_is_compiled(
    folder: str, language: str, program: str
) -> None:
    first = block((CLIENTS / folder / "README.md").read_text(), language)
    assert first == (CLIENTS / folder / program).read_text()
    said = re.sub(
        r"^(?:import \(.*?^\)|import .*?|package .*?|//.*?|)\n", "", first, flags=re.MULTILINE | re.DOTALL
    )
    assert 5 < said.count("\n") < 20


@pytest.mark.parametrize(
    ("folder", "language", "program"),
    [("typescript", "ts", "example/import.ts"), ("java", "java", "src/test/java/example/Load.java")],
)
def test_the_import_of_the_readme_is_the_one_that_is_compiled(
    folder: str, language: str, program: str
) -> None:
    readme = (CLIENTS / folder / "README.md").read_text()
    assert f"```{language}\n{(CLIENTS / folder / program).read_text()}```" in readme


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
