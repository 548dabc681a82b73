"""The contract's own rules: stubs are fresh, and everything is described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cir.common.v1 import errors_pb2
from scripts import generate_protos
from service_runtime.errors import grpc_code

ROOT = Path(__file__).resolve().parents[2]
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))
GO_MODULE = "composed-image-retrieval/clients/go"
DECLARATION = re.compile(
    r"^\s*(message|enum|service|rpc|oneof)\s+\w+|^\s*(repeated |optional )?[\w.<>, ]+\s+\w+ = \d+;"
)


@pytest.mark.service
def test_stubs_are_what_the_protos_say() -> None:
    assert generate_protos.main(["--check"]) == 0


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_every_declaration_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = [
        line.strip()
        for number, line in enumerate(lines)
        if DECLARATION.match(line)
        and not line.startswith(("package", "syntax", "import"))
        and not lines[number - 1].strip().startswith("//")
    ]
    assert bare == []


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_every_language_knows_where_generated_code_belongs(path: Path) -> None:
    options = dict(re.findall(r'^option (\w+) = "?([^";]+(?:;\w+)?)"?;$', path.read_text(), re.MULTILINE))
    package = ".".join(path.relative_to(ROOT / "protos").parent.parts)
    project, room, version = package.split(".")
    assert options == {
        "csharp_namespace": f"Cir.{room.title()}.{version.upper()}",
        "go_package": f"{GO_MODULE}/gen/{project}/{room}/{version};{room}{version}",
        "java_multiple_files": "true",
        "java_outer_classname": f"{path.stem.title()}Proto",
        "java_package": package,
        "php_namespace": rf"Cir\\{room.title()}\\{version.upper()}",
    }


def test_the_comment_of_a_reason_names_its_code() -> None:
    text = (ROOT / "protos/cir/common/v1/errors.proto").read_text()
    said: dict[str, str] = {}
    comment = ""
    for line in text.splitlines():
        if code := re.match(r"\s*// ([A-Z_]+): ", line):
            comment = code.group(1)
        if value := re.match(r"\s*([A-Z_]+) = \d+;", line):
            said[value.group(1)] = comment
    assert len(said) > 30
    for name, number in errors_pb2.ErrorReason.items():
        if number != errors_pb2.ERROR_REASON_UNSPECIFIED:
            assert grpc_code(number).name == said[name], name
