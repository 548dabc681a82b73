"""Options that are generated: from a model of a library, and from the connection that commands share."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import Field, dataclass, fields
from typing import Any

import pytest
from typer.main import get_command

from cir_cli.errors import Failure
from cir_cli.index import NO_FLAGS
from cir_cli.main import app, run
from cir_cli.options import Connection, flag_of, flags_in, with_model
from combiner_training.options import TrainOptions
from indexer.options import IndexingOptions
from service_runtime.options import check_options, option


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
        assert (option.default, option.help) == (each.default, flags_in(each.metadata["help"]))
    assert offered["projection_dim"].opts == ["--projection"]
    assert offered["mixed_precision"].secondary_opts == ["--no-mixed-precision"]


def test_every_option_of_a_run_of_the_indexer_is_a_flag_or_says_why_it_is_none() -> None:
    offered = parameters("index")
    assert set(NO_FLAGS) <= {each.name for each in fields(IndexingOptions)}
    for each in fields(IndexingOptions):
        if each.name in NO_FLAGS:
            continue
        option = offered[each.name]
        assert option.opts[0] == flag_of(each.name)
        assert (option.default, option.help) == (each.default, flags_in(each.metadata["help"]))
        assert (option.min, option.max) == (each.metadata.get("min"), each.metadata.get("max"))
        assert not set(option.opts + option.secondary_opts) & {
            other for one in offered.values() if one is not option for other in one.opts + one.secondary_opts
        }
    assert offered["allow_delete"].opts == ["--allow-delete", "--force"]
    assert offered["rejects_path"].envvar == "CIR_REJECTS"


def test_a_help_text_names_flags_in_place_of_fields() -> None:
    assert flags_in("Let `sync` use `ledger_path`.") == "Let --sync use --ledger."


@pytest.mark.parametrize("each", [each for each in fields(IndexingOptions) if "min" in each.metadata])
def test_options_of_a_run_of_the_indexer_keep_their_bounds(each: Field[Any]) -> None:
    for bound, expected, step in (("min", "at least", -1), ("max", "at most", 1)):
        if bound in each.metadata:
            IndexingOptions(**{each.name: each.metadata[bound]})
            with pytest.raises(ValueError, match=f"`{each.name}` is .* expected {expected}"):
                IndexingOptions(**{each.name: each.metadata[bound] + step})


def test_a_call_to_the_embedder_takes_some_time() -> None:
    with pytest.raises(ValueError, match="`call_timeout_seconds` is 0; expected more than 0"):
        IndexingOptions(call_timeout_seconds=0)


@dataclass(frozen=True)
class Patience:
    """Model with a bound that no flag knows."""

    seconds: float = option(1.0, above=0, help="Time to wait.")

    def __post_init__(self) -> None:
        check_options(self)


def test_what_only_the_model_refuses_ends_the_command_with_its_line() -> None:
    given: list[Patience] = []

    def command(*, patience: Patience) -> None:
        given.append(patience)

    wait = with_model("patience", Patience)(command)
    wait(seconds=0.5)
    assert given == [Patience(0.5)]
    with pytest.raises(Failure, match="`seconds` is 0; expected more than 0"):
        wait(seconds=0)


@pytest.mark.service
def test_help_and_the_options_of_commands_import_nothing_heavy() -> None:
    heavy = ["torch", "open_clip", "pyarrow", "qdrant_client", "qdrant_edge", "ray", "matplotlib"]
    code = f"""
import sys
from cir_cli.main import run
assert run(["--help"]) == run(["index", "--help"]) == run(["train", "--help"]) == 0
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


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
    assert run(["catalogs", "versions", "shop", "--cert-file", "x"]) == 2
    assert "--cert-file and --key-file go together" in capsys.readouterr().err
