"""The first page: what it tells to type exists, with the options and fields that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf.json_format import Parse

from cir.search.v1.search_pb2 import SearchRequest
from cir_cli.main import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line for line in SHELL.splitlines() if line.startswith("cir ")]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_takes_what_it_is_given(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"no such command: {line}"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known


def test_the_search_request_is_one() -> None:
    (body,) = re.findall(r"grpcurl .*? -d '(.*?)'", SHELL)
    request = Parse(body, SearchRequest())
    assert request.parent == "catalogs/shop"
    assert request.turns[0].text


def test_each_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ((?:[a-z-]+ ?)+)", README))
    words = {word for found in named for word in found.split()}
    used = {
        word
        for line in SHELL.splitlines()
        if line.startswith("make ")
        for word in line.split("#")[0].split()[1:]
        if "=" not in word
    }
    assert used
    assert used <= targets
    assert {"demo", "test", "docs"} <= words & targets


def test_each_page_that_it_names_is_there() -> None:
    pages = {target.partition("#")[0] for target in re.findall(r"\]\(([^):]+)\)", README)}
    assert len(pages) > 20
    assert sorted(page for page in pages if not (ROOT / page).exists()) == []
