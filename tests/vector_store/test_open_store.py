"""Store URLs, and the engine that each of them opens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vector_store import open_store
from vector_store.edge import folder_url
from vector_store.edge.store import EdgeStore
from vector_store.errors import StoreUnavailableError
from vector_store.open_store import embedded_folder
from vector_store.qdrant.store import QdrantStore


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "unknown scheme ''"),
        ("http://localhost:6333", "unknown scheme 'http'"),
        ("/data/store", "unknown scheme"),
        ("edge://relative/path", "three slashes"),
        ("edge:relative", "must be absolute"),
        ("edge:", "must be absolute"),
        ("edge://localhost/srv", "three slashes"),
        ("edge:///srv/spring #1", "# as %23"),
        ("edge:///srv/store?", r"\? as %3F"),
        ("edge:///srv/50% off", "percent sign in the path is written as %25"),
        ("edge:///srv/line\nbreak", "control character"),
        ("edge:///srv/store\t", "control character"),
        ("edge:///srv/a%00b", "%00"),
        ("edge:///srv/\ud800", "surrogate"),
        ("qdrant://", "expected a host"),
        ("qdrant://host:port", "port"),
        ("qdrant://host:70000", "port"),
        ("qdrant://user@host", "nothing else"),
        ("qdrant://host/path", "nothing else"),
        ("qdrant://host:0", "port '0'"),
        ("qdrant://host#part", "nothing else"),
        ("qdrant://host?timeout=1", "nothing else"),
        ("qdrant://:secret@host", "nothing else"),
        ("qdrant://::1", "brackets"),
        ("qdrant://256.0.0.1", "four numbers"),
        ("qdrant:host:6334", "expected a host"),
    ],
)
def test_urls_that_name_no_store(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_store(url)
    assert "edge:///absolute/path, qdrant://host:6334" in str(caught.value)


@pytest.mark.service
@pytest.mark.slow
async def test_urls_that_name_a_store(tmp_path: Path) -> None:
    edge = open_store(f"edge://{tmp_path}")
    assert isinstance(edge, EdgeStore)
    await edge.close()
    for url in ("qdrant://127.0.0.1:1", "qdrants://127.0.0.1:1", "qdrant://[::1]:1"):
        store = open_store(url, api_key="k" if url.startswith("qdrants") else "", timeout_s=2)
        assert isinstance(store, QdrantStore)
        with pytest.raises(StoreUnavailableError, match=r"cannot reach Qdrant at qdrants?://"):
            await store.check()
        await store.close()
        with pytest.raises(StoreUnavailableError, match="closed"):
            await store.list_catalogs()
    with pytest.warns(UserWarning, match="insecure connection"):
        await open_store("qdrant://example.org", api_key="k").close()


@pytest.mark.service
@pytest.mark.parametrize(
    ("url", "absent"), [("edge:///x", "qdrant_client"), ("qdrant://localhost", "qdrant_edge")]
)
def test_one_engine_does_not_need_the_other(url: str, absent: str) -> None:
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        f"from vector_store import open_store; open_store({url!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_folders_of_embedded_stores() -> None:
    assert embedded_folder("edge:///data/my%20store") == Path("/data/my store")
    assert embedded_folder("qdrant://host") is None
    with pytest.raises(ValueError, match="unknown scheme"):
        embedded_folder("http://host")


_NAMES = st.one_of(
    st.binary(min_size=1, max_size=12).map(os.fsdecode),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.sampled_from(["spring #1", "what?", "50%20off", "100%", "a b", "Frühling", ";x=1", "a:b", "[x]", "~"]),
).filter(lambda name: not {"/", "\0"} & set(name) and name not in (".", ".."))


@given(st.lists(_NAMES, max_size=4), st.booleans(), st.booleans())
@example(["srv", "x", "spring #1"], True, False)
@example(["srv", "x", "50%20off"], True, True)
def test_any_folder_survives_its_url(names: list[str], absolute: bool, trailing: bool) -> None:
    """Two folders never share a URL, and a URL never leads to another folder than it was made of."""
    text = "/" * absolute + "/".join(names) + "/" * (trailing and bool(names))
    folder = Path(text)
    url = folder_url(folder)
    assert url.isascii()
    assert url.isprintable()
    assert embedded_folder(url) == folder.absolute()


@given(st.lists(_NAMES, min_size=1, max_size=4))
def test_a_path_as_it_is_leads_to_its_folder_or_is_refused(names: list[str]) -> None:
    path = "/" + "/".join(names)
    if {"#", "?"} & set(path) or re.search(r"[\x00-\x1f\x7f]|%(?![0-9A-Fa-f]{2})|%00", path):
        with pytest.raises(ValueError, match="store URL"):
            embedded_folder(f"edge://{path}")
    elif "%" not in path:
        assert embedded_folder(f"edge://{path}") == Path(path)


def test_quoted_and_plain_paths_mean_the_same() -> None:
    plain = "/srv/my shop/Frühling;v=1/a+b"
    assert embedded_folder(f"edge://{plain}") == Path(plain)
    assert embedded_folder(f"EDGE://{quote(plain)}/") == Path(plain)
    assert embedded_folder("edge:/srv/store") == embedded_folder("edge:////srv/store") == Path("/srv/store")
