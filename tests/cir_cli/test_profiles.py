"""Profiles: flags before variables before the file, wrong files, and who gets a key."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.search.v1 import catalog_pb2
from cir_cli.errors import Failure
from cir_cli.local import up_file
from cir_cli.local.up_file import UpFile
from cir_cli.main import run
from cir_cli.profiles import KEYS, Chosen, config_file, read_profiles
from tests.cir import messages
from tests.cir.fake_search import FakeSearch, fake_search

Write = Callable[[str], Path]
_PIECES = (
    "[profiles", ".default", "]", "[[", "\n", "server", "api_key", "ca_file", " = ", '"x"', "'", "3", "{",
    "}", "[1, 2]", "1979-05-27", "9" * 5000, "#", '"""', "\\", '"~nobody/x"', "\x00", "é",
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the file of profiles, its owner's alone."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("CIR_CONFIG", str(path))
    for name in [name for name in os.environ if name.startswith("CIR_") and name != "CIR_CONFIG"]:
        monkeypatch.delenv(name)

    def write(text: str) -> Path:
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


@pytest.mark.service
def test_flags_go_before_variables_and_these_before_the_file(
    config: Write, search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_service.answers.update(
        ListItems=catalog_pb2.ListItemsResponse(items=[messages.item("a")]), GetCatalog=messages.catalog()
    )
    config(
        f'[profiles.default]\nserver = "{search_service.address}"\napi_key = "of-file"\ncatalog = "shop"\n'
        f'[profiles.other]\nserver = "{search_service.address}"\ncatalog = "boutique"\n'
    )

    def asked() -> tuple[str, object]:
        request = next(each for each in reversed(search_service.requests) if hasattr(each, "parent"))
        return request.parent, search_service.metadata[-1].get("x-api-key")

    assert run(["items"]) == 0
    assert asked() == ("catalogs/shop", "of-file")
    assert run(["items", "hats"]) == 0
    assert asked() == ("catalogs/hats", "of-file")
    assert run(["--profile", "other", "items"]) == 0
    assert asked() == ("catalogs/boutique", None)
    monkeypatch.setenv("CIR_PROFILE", "other")
    assert run(["items"]) == 0
    assert asked() == ("catalogs/boutique", None)
    monkeypatch.setenv("CIR_PROFILE", "default")
    monkeypatch.setenv("CIR_API_KEY", "of-variable")
    monkeypatch.setenv("CIR_CATALOG", "shoes")
    assert run(["items"]) == 0
    assert asked() == ("catalogs/shoes", "of-variable")
    assert run(["items", "--api-key", "of-flag", "list", "hats"]) != 0
    assert run(["items", "hats", "--api-key", "of-flag"]) == 0
    assert asked() == ("catalogs/hats", "of-flag")


@pytest.mark.service
def test_a_key_goes_to_the_server_of_its_profile_alone(
    config: Write, search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = catalog_pb2.ListCatalogsResponse(catalogs=[messages.catalog()])
    search_service.answers["ListCatalogs"] = listed
    config(
        f'[profiles.default]\nserver = "{search_service.address}"\napi_key = "secret"\nca_file = "no.pem"\n'
    )
    with fake_search() as other:
        other.answers["ListCatalogs"] = listed
        assert run(["catalogs", "--server", other.address]) == 0
        monkeypatch.setenv("CIR_SERVER", other.address)
        assert run(["catalogs"]) == 0
        assert ["x-api-key" in each for each in other.metadata] == [False, False]
    # To its own server it would go, over TLS.
    monkeypatch.delenv("CIR_SERVER")
    assert run(["catalogs"]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[profiles.default]\nserver = ", r"config.toml:2: this is no TOML"),
        ("server = 'x'", r"config.toml:1: server is unknown; expected tables \[profiles.NAME\]"),
        ("\n\n[profile.x]\nserver = 'x'", r"config.toml:3: profile is unknown"),
        ("profiles = 3", r"config.toml:1: profiles is no table"),
        ("[profiles]\nx = 3", r"config.toml:2: x is no table"),
        (
            "[profiles.a]\nserver = 'x'\n\n[profiles.b]\nsrver = 'x'",
            r":5: srver is unknown; did you mean 'server'",
        ),
        ("[profiles.a]\nzzz = 'x'", rf":2: zzz is unknown; expected {KEYS[0]}, "),
        ("[profiles.a]\nserver = 50050", r":2: server is 50050; expected a text in quotes"),
        ("[profiles.a]\nserver = ''", r":2: server is ''; expected a text"),
        ("[profiles.a]\n# key\n\napi_key = 'x'", r":4: api_key needs server in the same profile"),
        ("[profiles.a]\nstore_api_key = 'x'", r":2: store_api_key needs store"),
        ("[profiles.'a.b']\nserver = 1", r"config.toml(:\d)?: server is 1"),
        ("profiles.a.server = 1", r":1: server is 1"),
        ("profiles = {a = {server = 1}}", r"config.toml(:1)?: server is 1"),
    ],
)
def test_a_wrong_file_is_one_line_with_place_and_key(
    config: Write, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = config(text)
    with pytest.raises(Failure, match=message):
        read_profiles(path)
    assert run(["catalogs"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"cir: {path}")
    assert err.count("\n") == 1
    # Help, and commands that have no use for it, do not read it.
    assert run(["catalogs", "--help"]) == 0
    assert run(["keys", "new", "--name", "x"]) == 0


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(_PIECES), max_size=12).map("".join),
        st.dictionaries(st.sampled_from([*KEYS, "srver"]), st.text(max_size=5)).map(
            lambda profile: "[profiles.a]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in profile.items())
        ),
    )
)
def test_no_file_ends_a_command_otherwise_than_by_one_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_bytes(text.encode(errors="surrogatepass"))
        path.chmod(0o600)
        try:
            profiles = read_profiles(path)
        except Failure:
            return
        for profile in profiles.values():
            assert set(profile) <= set(KEYS)
            assert all(value and value.isprintable() for value in profile.values())


def test_a_key_that_cannot_be_used_is_not_shown(config: Write) -> None:
    path = config('[profiles.a]\nserver = "x"\napi_key = "secret\\n"\n')
    with pytest.raises(Failure, match=":3: api_key is not shown; expected a text") as refused:
        read_profiles(path)
    assert "secret" not in str(refused.value)


def test_a_user_without_a_home_or_with_one_that_is_closed_has_no_profiles(
    config: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config('[profiles.default]\nserver = "x"\n')

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", closed)
        patch.setattr(os, "access", lambda *_: False)
        assert read_profiles(path) == {}
        patch.setattr(os, "access", lambda *_: True)
        with pytest.raises(Failure, match="cannot be read: Permission denied"):
            read_profiles(path)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("CIR_CONFIG")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert config_file() is None
    assert run(["config", "show"]) == 0
    assert run(["--profile", "x", "catalogs"]) == 2
    assert "there are: none" in capsys.readouterr().err


def test_a_file_that_is_no_text_or_cannot_be_read(config: Write, tmp_path: Path) -> None:
    path = config("")
    path.write_bytes(b"\xff\xfe[")
    with pytest.raises(Failure, match="no text in UTF-8"):
        read_profiles(path)
    with pytest.raises(Failure, match="cannot be read"):
        read_profiles(tmp_path)
    assert read_profiles(path / "x") == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_with_a_key_is_its_owners_alone(config: Write, mode: int) -> None:
    path = config('[profiles.a]\nserver = "x"\napi_key = "secret"\n')
    assert read_profiles(path) == {"a": {"server": "x", "api_key": "secret"}}
    path.chmod(mode)
    with pytest.raises(Failure, match=rf"others may use the file \(mode {mode:04o}.*chmod 600") as refused:
        read_profiles(path)
    assert "secret" not in str(refused.value)
    path.write_text('[profiles.a]\nserver = "x"\n')
    assert read_profiles(path) == {"a": {"server": "x"}}


def test_the_place_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CIR_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_file() == tmp_path / ".config/cir/config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
    assert config_file() == tmp_path / ".config/cir/config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config_file() == tmp_path / "xdg/cir/config.toml"
    monkeypatch.setenv("CIR_CONFIG", "~/own.toml")
    assert config_file() == tmp_path / "own.toml"


@pytest.mark.service
def test_the_services_of_the_folder_are_found_after_flag_variable_and_profile(
    tmp_path: Path, config: Write, search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config("")
    search_service.answers["ListCatalogs"] = catalog_pb2.ListCatalogsResponse()
    data = tmp_path / "cir-data"
    with up_file.claim(data):
        up_file.write(data, UpFile(1, search_service.address, "", "", "", "", ""))
        assert run(["catalogs"]) == 0
        assert run(["catalogs", "--server", "127.0.0.1:1"]) == 1
        with monkeypatch.context() as patch:
            patch.setenv("CIR_SERVER", "127.0.0.1:1")
            assert run(["catalogs"]) == 1
        config('[profiles.default]\nserver = "127.0.0.1:1"\n')
        assert run(["catalogs"]) == 1
        config(f'[profiles.default]\ndata = "{data}"\n')
        monkeypatch.chdir("/")
        assert run(["catalogs"]) == 0
        # A folder does not send keys to other machines.
        for elsewhere in ("192.0.2.1:50050", "search.example.com:50050", "dns:///search.example.com"):
            up_file.write(data, UpFile(1, elsewhere, "", "", "", "", ""))
            assert up_file.search_here(data) is None
    assert up_file.search_here(data) is None


def test_a_named_file_that_is_not_there_is_refused(
    tmp_path: Path, config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["catalogs"]) == 2
    assert f"no file {tmp_path / 'config.toml'}, which CIR_CONFIG names" in capsys.readouterr().err


def test_files_are_relative_to_the_file_of_profiles(config: Write) -> None:
    path = config(
        '[profiles.a]\nserver = "x"\nca_file = "tls/ca.pem"\nkey_file = "/etc/key.pem"\ndata = "~/d"\n'
    )
    assert read_profiles(path)["a"] == {
        "server": "x",
        "ca_file": str(path.parent / "tls/ca.pem"),
        "key_file": "/etc/key.pem",
        "data": str(Path("~/d").expanduser()),
    }


def test_a_profile_that_is_not_there(config: Write, capsys: pytest.CaptureFixture[str]) -> None:
    config('[profiles.staging]\nserver = "x"\n')
    assert run(["--profile", "stagng", "catalogs"]) == 2
    assert "has no profile 'stagng'; did you mean 'staging'?" in capsys.readouterr().err
    assert run(["--profile", "zzz", "catalogs"]) == 2
    assert "has no profile 'zzz'; there are: staging" in capsys.readouterr().err
    assert Chosen(None).values == {}


def test_what_is_in_use_is_shown_without_keys(
    config: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, short = "cir_" + "s3cret" * 6, "hunter2"
    path = config(
        f'[profiles.default]\nserver = "x:1"\napi_key = "{secret}"\nstore = "qdrant://y:1"\n'
        f'store_api_key = "{short}"\n'
    )
    monkeypatch.setenv("CIR_SERVER", "z:2")
    assert run(["config", "show"]) == 0
    shown = capsys.readouterr().out
    assert run(["config", "show", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    for text in (shown, json.dumps(document)):
        assert secret[8:] not in text
        assert short not in text
    assert str(path) in shown
    assert (document["profile"], document["profiles"]) == ("default", ["default"])
    assert document["settings"]["server"] == {"value": "z:2", "from": "CIR_SERVER"}
    assert document["settings"]["store"] == {"value": "qdrant://y:1", "from": "profile"}
    assert document["settings"]["api_key"]["from"] == "profile"


def test_the_server_in_use_is_shown_with_where_it_comes_from(
    tmp_path: Path, config: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def server() -> dict[str, str]:
        assert run(["config", "show", "--json"]) == 0
        found: dict[str, str] = json.loads(capsys.readouterr().out)["settings"]["server"]
        return found

    monkeypatch.chdir(tmp_path)
    config("")
    assert server() == {"value": "127.0.0.1:50050", "from": "default"}
    data, elsewhere = tmp_path / "cir-data", tmp_path / "elsewhere"
    with up_file.claim(data), up_file.claim(elsewhere):
        up_file.write(data, UpFile(1, "127.0.0.1:7", "", "", "", "", ""))
        up_file.write(elsewhere, UpFile(1, "127.0.0.1:8", "", "", "", "", ""))
        assert server() == {"value": "127.0.0.1:7", "from": f"cir up on {data}"}
        config('[profiles.default]\ndata = "elsewhere"\n')
        assert server() == {"value": "127.0.0.1:8", "from": f"cir up on {elsewhere}"}
        with monkeypatch.context() as patch:
            patch.setenv("CIR_DATA", "cir-data")
            assert server() == {"value": "127.0.0.1:7", "from": f"cir up on {data}"}
        config('[profiles.default]\nserver = "x:1"\n')
        assert server() == {"value": "x:1", "from": "profile"}
