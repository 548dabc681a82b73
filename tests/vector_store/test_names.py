"""Names: fields in stored points, versions, collections and aliases, store URLs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_store import open_store
from vector_store.edge_store import EdgeStore
from vector_store.errors import StoreUnavailable
from vector_store.field_keys import data_path, escape_key, unescape_key
from vector_store.publish_history import PublishHistory
from vector_store.qdrant_names import (
    alias_name,
    aliases_of_history,
    collection_name,
    history_from_aliases,
    parse_collection,
)
from vector_store.qdrant_store import QdrantStore
from vector_store.version_names import is_version_name, next_version
from vector_store.words import words_of


@given(st.text())
def test_every_field_name_survives_and_fits_a_path(name: str) -> None:
    key = escape_key(name)
    assert unescape_key(key) == name
    assert '"' not in key
    assert data_path(name) == f'data."{key}"'


@given(st.text(alphabet='%25"C\\ab'), st.text(alphabet='%25"C\\ab'))
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert (escape_key(one) == escape_key(other)) == (one == other)


def test_version_names() -> None:
    assert next_version([]) == "v0001"
    assert next_version(["v0002", "v0010", "v0003", "other"]) == "v0011"
    assert [is_version_name(n) for n in ("v0001", "v1", "v00010", "V0001", "")] == [True] + [False] * 4
    with pytest.raises(ValueError, match="9999"):
        next_version(["v9999"])


def test_collections_and_aliases() -> None:
    assert parse_collection(collection_name("a-b_c", "v0001")) == ("a-b_c", "v0001")
    for foreign in ("shop", "cir.shop", "cir.shop.v1", "cir.Shop.v0001", "cir..v0001", "xcir.shop.v0001"):
        assert parse_collection(foreign) is None
    history = PublishHistory("v0012", tuple(f"v{n:04d}" for n in range(1, 12)))
    aliases = {**aliases_of_history("shop", history), **aliases_of_history("shop2", PublishHistory("v0001"))}
    assert history_from_aliases("shop", aliases) == history
    assert history_from_aliases("sho", aliases) == PublishHistory()
    assert aliases[alias_name("shop")] == "cir.shop.v0012"


def test_words() -> None:
    assert words_of(["Red  dress_long", "RED Ｄress!", "Straße 42"]) == [
        "red",
        "dress",
        "long",
        "strasse",
        "42",
    ]
    assert words_of([" -_- "]) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "unknown scheme ''"),
        ("http://localhost:6333", "unknown scheme 'http'"),
        ("/data/store", "unknown scheme"),
        ("edge://relative/path", "three slashes"),
        ("edge:relative", "must be absolute"),
        ("qdrant://", "expected a host"),
        ("qdrant://host:port", "port"),
        ("qdrant://host:70000", "port"),
        ("qdrant://user@host", "nothing else"),
        ("qdrant://host/path", "nothing else"),
    ],
)
def test_urls_that_name_no_store(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_store(url)
    assert "edge:///absolute/path, qdrant://host:6334" in str(caught.value)


async def test_urls_that_name_a_store(tmp_path: Path) -> None:
    edge = open_store(f"edge://{tmp_path}")
    assert isinstance(edge, EdgeStore)
    await edge.close()
    for url in ("qdrant://127.0.0.1:1", "qdrants://127.0.0.1:1", "qdrant://[::1]:1"):
        store = open_store(url, api_key="k" if url.startswith("qdrants") else "", timeout_s=2)
        assert isinstance(store, QdrantStore)
        with pytest.raises(StoreUnavailable, match=r"cannot reach Qdrant at qdrants?://"):
            await store.check()
        await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.list_catalogs()
    with pytest.warns(UserWarning, match="insecure connection"):
        await open_store("qdrant://example.org", api_key="k").close()


@pytest.mark.parametrize(
    ("url", "absent"), [("edge:///x", "qdrant_client"), ("qdrant://localhost", "qdrant_edge")]
)
def test_one_engine_does_not_need_the_other(url: str, absent: str) -> None:
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        f"from vector_store import open_store; open_store({url!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
