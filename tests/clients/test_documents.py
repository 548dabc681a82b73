"""What clients share stands once: the service config, first programs, the messages of the contract."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

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


def test_the_first_program_in_go_is_the_one_that_is_compiled() -> None:
    readme = (CLIENTS / "go" / "README.md").read_text()
    assert block(readme, "go") == (CLIENTS / "go" / "example" / "main.go").read_text()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_generated_go_holds_the_messages_of_today(module: Any) -> None:
    name = module.DESCRIPTOR.name
    source = (CLIENTS / "go" / "gen" / name.replace(".proto", ".pb.go")).read_text()
    literal = re.search(r'_rawDesc = "" \+\n((?:\t".*"(?: \+)?\n)+)', source)
    assert literal is not None
    # Go writes bytes as Python does.
    lines = [line.strip().removesuffix(" +") for line in literal.group(1).splitlines()]
    found = descriptor_pb2.FileDescriptorProto.FromString(
        b"".join(ast.literal_eval("b" + line) for line in lines)
    )
    kept = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(kept)
    # One compiler spells the names in JSON out, the other leaves them to the reader.
    for one in (found, kept):
        _forget_json_names(one.message_type)
    assert found == kept, "run `make clients`"
