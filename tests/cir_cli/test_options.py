"""Options that are generated: from a model of a library, and from the connection that commands share."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any

import pytest
from typer.main import get_command

from cir_cli.main import app, run
from cir_cli.options import Connection, flag_of
from combiner_training.options import TrainOptions


def parameters(*path: str) -> dict[str, Any]:
    """Return the parameters of a command by name."""
    command: Any = get_command(app)
    for name in path:
        command = command.commands[name]
    return {parameter.name: parameter for parameter in command.params}


@pytest.mark.parametrize("each", [each for each in fields(TrainOptions) if "min" in each.metadata])
def test_numbers_of_a_training_below_their_bounds_are_refused(
    each: Field[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    needed = ("--dataset", "cirr", "--root", "x", "--features", "x", "--out", "x")
    assert run(["train", *needed, flag_of(each.name), str(each.metadata["min"] - 1)]) == 2
    assert flag_of(each.name) in capsys.readouterr().err


def test_every_number_of_a_training_is_an_option_with_its_own_default_and_help() -> None:
    offered = parameters("train")
    for each in fields(TrainOptions):
        option = offered[each.name]
        assert option.opts == [flag_of(each.name)]
        assert (option.default, option.help) == (each.default, each.metadata["help"])
    assert offered["projection_dim"].opts == ["--projection"]
    assert offered["mixed_precision"].secondary_opts == ["--no-mixed-precision"]


@pytest.mark.parametrize(
    "path",
    [
        ("search",),
        ("catalogs", "versions"),
        ("catalogs", "publish"),
        ("catalogs", "rollback"),
        ("catalogs", "delete"),
    ],
)
def test_commands_that_call_the_search_service_share_one_connection(path: tuple[str, ...]) -> None:
    offered = parameters(*path)
    assert [name for name in offered if name in {each.name for each in fields(Connection)}] == [
        each.name for each in fields(Connection)
    ]
    assert offered["server"].envvar == "CIR_SERVER"


def test_a_connection_that_is_incomplete_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalogs", "versions", "shop", "--cert-file", "x"]) == 1
    assert "--cert-file and --key-file go together" in capsys.readouterr().err
