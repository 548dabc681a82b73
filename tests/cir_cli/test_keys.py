"""`cir keys new`, and the options that say how a service is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from cir.channel import TlsFiles, digest, metadata, new_key
from cir.errors import InvalidArgument
from cir_cli.errors import Failure
from cir_cli.main import run
from cir_cli.options import Access, access
from service_runtime.auth import Scope, read_key_file


def test_what_is_printed_is_a_file_of_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.toml"
    keys = []
    for name, scope in (("shop", "read"), ("indexer", "write")):
        assert run(["keys", "new", "--name", name, "--scope", scope]) == 0
        printed = capsys.readouterr().out
        [key] = [word for word in printed.split() if word.startswith("cir_")]
        keys.append(key)
        # The entries as they stand, without the comments that hold the keys.
        entry = [line for line in printed.splitlines() if not line.startswith("#")]
        with path.open("a") as file:
            file.write("\n".join(entry) + "\n")
    assert all(key not in path.read_text() for key in keys)
    first, second = read_key_file(path)
    assert (first.name, first.scope, first.digest) == ("shop", Scope.READ, digest(keys[0]))
    assert (second.name, second.scope, second.digest) == ("indexer", Scope.WRITE, digest(keys[1]))


def test_a_key_for_some_catalogs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "new", "--name", "acme", "--catalog", "shop", "--catalog", "acme-*"]) == 0
    path = tmp_path / "keys.toml"
    path.write_text(capsys.readouterr().out)
    [key] = read_key_file(path)
    assert key.catalogs == ("shop", "acme-*")
    for wrong in ("*", "Shop", "a*b", "", "a" * 64):
        assert run(["keys", "new", "--name", "acme", "--catalog", wrong]) == 2
        assert "is no name of a catalog" in capsys.readouterr().err


def test_names_and_scopes_that_no_file_takes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "new", "--name", "a b"]) == 2
    assert "needs up to 64 letters" in capsys.readouterr().err
    assert run(["keys", "new", "--name", "a", "--scope", "admin"]) == 2


def test_new_keys_differ_and_can_be_sent() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert metadata(key) == (("x-api-key", key),)


def test_options_that_go_together(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    assert access("", None, None, None) == Access()
    assert access("k", file, file, file) == Access("k", TlsFiles(file, file, file))
    assert "secret" not in repr(Access("secret"))
    for options, words in (
        ((None, file, None), "--cert-file and --key-file go together"),
        ((None, file, file), "--cert-file needs TLS; give --ca-file as well"),
        ((tmp_path / "none", None, None), "--ca-file .*none cannot be read: No such file"),
    ):
        with pytest.raises(Failure, match=words):
            access("", *options)
    with pytest.raises(Failure, match="give --embedder-ca-file"):
        access("", None, file, file, prefix="--embedder-")
    with pytest.raises(InvalidArgument, match="together or not at all"):
        TlsFiles(certificate=file).credentials()
