from __future__ import annotations

import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.channel import digest, new_key
from service_runtime.auth import ApiKey, KeyRing, Scope, load_key_ring, parse_keys, read_key_file
from service_runtime.errors import StartupError
from service_runtime.settings import ServiceSettings

KEY, OTHER = new_key(), new_key()


def entry(name: str = "shop", scope: str = "read", key: str = KEY) -> dict[str, str]:
    return {"name": name, "scope": scope, "sha256": digest(key).hex()}


def toml(*entries: dict[str, str]) -> str:
    return "\n".join("[[keys]]\n" + "\n".join(f'{k} = "{v}"' for k, v in e.items()) for e in entries)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    entries = [entry(), entry("indexer", "write", OTHER)]
    (tmp_path / "keys.toml").write_text(toml(*entries))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": entries}))
    read = read_key_file(tmp_path / "keys.toml")
    assert read == read_key_file(tmp_path / "keys.json")
    assert [(key.name, key.scope) for key in read] == [("shop", Scope.READ), ("indexer", Scope.WRITE)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "at least one entry"),
        ("keys = []", "at least one entry"),
        ('key = "x"', "at least one entry"),
        ("[[keys", "is not TOML"),
        (toml(entry() | {"tenant": "shop"}), "entry 1 needs the fields name, scope and sha256"),
        (toml(entry() | {"catalogs": "shop"}), "entry 1 needs a list of at least one name as catalogs"),
        (toml(entry()) + "\ncatalogs = []", "leave catalogs out for a key for all"),
        (toml(entry()) + '\ncatalogs = ["shop", 3]', "needs a list of at least one name as catalogs"),
        (toml(entry()) + '\ncatalogs = ["*"]', "needs a list of at least one name as catalogs"),
        (toml(entry()) + '\ncatalogs = ["a*b"]', "needs a list of at least one name as catalogs"),
        (toml(entry()) + '\ncatalogs = ["Shop"]', "needs a list of at least one name as catalogs"),
        (toml(entry(), {"name": "x"}), "entry 2 needs the fields"),
        (toml(entry(scope="admin")), "scope read or write"),
        (toml(entry(name="a b")), "needs a name"),
        pytest.param(toml(entry() | {"sha256": KEY}), "64 hexadecimal digits", id="not a hash"),
        (toml(entry(), entry("b")), "one key twice"),
        ("keys = [1]", "entry 1 needs the fields"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported_without_its_content(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(content)
    with pytest.raises(StartupError) as raised:
        read_key_file(path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value)
    assert digest(KEY).hex() not in str(raised.value)


def test_a_key_is_for_the_catalogs_that_its_entry_names(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry("all"), entry("acme", key=OTHER)) + '\ncatalogs = ["shop", "acme-*"]')
    for_all, for_some = read_key_file(path)
    assert for_all.catalogs is None
    assert for_all.is_for("anything")
    assert for_some.catalogs == ("shop", "acme-*")
    names = ("shop", "shops", "sho", "acme-", "acme-1", "acme", "xacme-1")
    assert [name for name in names if for_some.is_for(name)] == ["shop", "acme-", "acme-1"]
    [direct] = parse_keys(f"a:read:{KEY}")
    assert direct.catalogs is None


def test_files_that_are_missing_or_not_text_are_reported(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"api_keys_file .*none\.toml cannot be read: No such file"):
        read_key_file(tmp_path / "none.toml")
    (tmp_path / "keys.json").write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match="is not JSON"):
        read_key_file(tmp_path / "keys.json")


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_keys("") == []
    [first, second] = parse_keys(f"search:read:{KEY}, indexer:write:{OTHER}")
    assert (first.name, first.scope, first.digest) == ("search", Scope.READ, digest(KEY))
    assert (second.name, second.scope) == ("indexer", Scope.WRITE)
    for text, words in (
        (f"{KEY}", "not of the form"),
        ("a:read:short", "can be guessed"),
        (f"a:admin:{KEY}", "scope read or write"),
        (f"a/b:read:{KEY}", "needs a name"),
        (f"a:read:{KEY},b:write:{KEY}", "one key twice"),
    ):
        with pytest.raises(StartupError, match=words) as raised:
            parse_keys(text)
        assert KEY not in str(raised.value)


def test_no_settings_no_ring_and_both_places_count(tmp_path: Path) -> None:
    assert load_key_ring(ServiceSettings()) is None
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry()))
    ring = load_key_ring(ServiceSettings(api_keys_file=path, api_keys=f"direct:write:{OTHER}"))
    assert ring is not None
    names = [found.name if (found := ring.find(key)) else None for key in (KEY, OTHER, new_key(), "")]
    assert names == ["shop", "direct", None, None]


@given(st.text(), st.lists(st.text(min_size=1), unique=True, max_size=5))
def test_a_key_is_found_exactly_when_it_is_one(sent: str, known: list[str]) -> None:
    ring = KeyRing([ApiKey(f"k{n}", Scope.READ, digest(key)) for n, key in enumerate(known)], None)
    found = ring.find(sent)
    assert (found.name if found else None) == (f"k{known.index(sent)}" if sent in known else None)


def test_every_entry_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys = [ApiKey(name, Scope.READ, digest(name)) for name in ("a", "b", "c")]
    found = KeyRing(keys, None).find("a")
    assert found is not None
    assert compared == [key.digest for key in keys]


def test_keys_show_in_no_text(tmp_path: Path) -> None:
    settings = ServiceSettings(api_keys=f"a:read:{KEY}")
    [key] = parse_keys(settings.api_keys.get_secret_value())
    for text in (repr(settings), str(settings), repr(key), str(key), settings.model_dump_json()):
        assert KEY not in text
        assert digest(KEY).hex() not in text
        assert repr(digest(KEY)) not in text


def test_settings_at_fault_never_quote_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from embedder_service.settings import EmbedderSettings

    monkeypatch.setenv("CIR_EMBEDDER_API_KEYS", f"a:read:{KEY}")
    # A fault of the settings as a whole: the value at fault holds all of them.
    with pytest.raises(StartupError, match="max_queue_items must be at least") as raised:
        EmbedderSettings.load(["--max-queue-items", "1"])
    assert KEY not in str(raised.value)
    with pytest.raises(StartupError, match=r"setting port: .*got 'x'"):
        EmbedderSettings.load(["--port", "x"])
