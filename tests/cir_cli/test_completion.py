"""What shells get when they ask what may follow: commands, options, values, and names of catalogs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from cir.search.v1 import catalog_pb2
from cir_cli.main import run
from tests.cir import messages
from tests.cir.fake_search import FakeSearch, refuse

pytestmark = pytest.mark.service


def asked(shell: str, line: str) -> dict[str, str]:
    """The variables by which a shell asks for what may follow the line."""
    words = line.split(" ")
    if shell == "bash":
        return {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


def completed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str, shell: str = "bash"
) -> list[str]:
    """What is offered after a line."""
    with monkeypatch.context() as patch:
        for name, value in {"_CIR_COMPLETE": f"complete_{shell}", **asked(shell, line)}.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            run([])
    assert end.value.code == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    return captured.out.split("\n")[:-1] if shell == "bash" else captured.out.splitlines()


def test_commands_options_and_values(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert completed(monkeypatch, capfd, "cir cata") == ["catalogs"]
    assert completed(monkeypatch, capfd, "cir catalogs ro") == ["rollback"]
    assert completed(monkeypatch, capfd, "cir items u") == ["upsert", "update"]
    assert completed(monkeypatch, capfd, "cir search shop --group-s") == ["--group-size"]
    assert completed(monkeypatch, capfd, "cir search shop --feedback r") == ["rocchio", "recommend"]
    [line] = completed(monkeypatch, capfd, "cir cata", "fish")
    assert line.startswith("catalogs\tList catalogs; ")
    assert '"catalogs":"List' in completed(monkeypatch, capfd, "cir cata", "zsh")[0]


def test_names_of_catalogs(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    search_service: FakeSearch,
    tmp_path: Path,
) -> None:
    names = ("shop", "shoes", "hats")
    search_service.answers["ListCatalogs"] = catalog_pb2.ListCatalogsResponse(
        catalogs=[messages.catalog(name) for name in names]
    )
    config = tmp_path / "config.toml"
    config.write_text(
        f'[profiles.own]\nserver = "{search_service.address}"\napi_key = "k"\ncatalog = "shop"\n'
    )
    config.chmod(0o600)
    monkeypatch.setenv("CIR_CONFIG", str(config))
    # By an option, a variable, and a profile.
    option = f"--server {search_service.address} "
    assert completed(monkeypatch, capfd, f"cir search {option}sh") == ["shop", "shoes"]
    assert completed(monkeypatch, capfd, f"cir items {option}") == list(names)
    with monkeypatch.context() as patch:
        patch.setenv("CIR_SERVER", search_service.address)
        assert completed(patch, capfd, "cir catalogs rollback ha") == ["hats"]
    assert completed(monkeypatch, capfd, "cir --profile own catalogs versions ha") == ["hats"]
    assert search_service.metadata[-1]["x-api-key"] == "k"
    # Whatever is wrong is not said between the words of a line.
    search_service.answers["ListCatalogs"] = refuse(grpc.StatusCode.INTERNAL, "broken")
    assert completed(monkeypatch, capfd, f"cir search {option}sh") == [""]
    config.write_text("[profiles.own]\nserver = 3")
    for line in ("cir --profile own search sh", "cir search --ca-file /none --server 127.0.0.1:1 sh"):
        assert completed(monkeypatch, capfd, line) == [""]


def test_a_server_that_is_away_is_not_waited_for_nor_written_about() -> None:
    words = asked("bash", "cir search --server 127.0.0.1:1 s")
    done = subprocess.run(
        [sys.executable, "-m", "cir_cli"],
        env={**os.environ, "_CIR_COMPLETE": "complete_bash", **words},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_script_of_each_shell_is_shown(
    shell: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_CIR_COMPLETE", f"source_{shell}")
    with pytest.raises(SystemExit) as end:
        run([])
    assert end.value.code == 0
    assert "_CIR_COMPLETE" in capfd.readouterr().out
