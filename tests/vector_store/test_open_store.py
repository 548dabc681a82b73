"""Store URLs, and the engine that each of them opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vector_store import open_store
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
