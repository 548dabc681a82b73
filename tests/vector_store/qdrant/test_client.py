"""The way to a server: TLS, a node that restarts, how a version is spread over a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
import trustme

from cir.address import parse_address
from tests.hosts import has_ipv6
from tests.relay import Relay
from tests.vector_store.grpc_stand_in import StandIn
from tests.vector_store.samples import batch, build, features, numbered, spec
from vector_store import open_store
from vector_store.copy import copy_version
from vector_store.errors import CopyMismatchError, StoreUnavailableError
from vector_store.qdrant import QdrantOptions, client
from vector_store.snapshot import restore_snapshot, write_snapshot
from vector_store.types import Placement

pytestmark = pytest.mark.service


@pytest.mark.slow
async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    key, chain = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    server = StandIn(api_key="secret", tls=grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    ca, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(str(ca))
    trustme.CA().cert_pem.write_to_path(str(other))
    url = f"qdrants://localhost:{server.port}"
    async with open_store(url, api_key="secret", ca_file=ca) as store:
        await build(store, "shop", batch(["a"]))
        async with store.open_version("shop") as pinned:
            assert await pinned.count() == 1
    for wrong in (
        open_store(url, api_key="secret", ca_file=other, timeout_s=1),
        open_store(url.replace("qdrants", "qdrant"), timeout_s=1),
    ):
        with pytest.raises(StoreUnavailableError):
            await wrong.check()
        await wrong.close()
    with pytest.raises(ValueError, match="cannot read the authorities"):
        open_store(url, ca_file=tmp_path / "none.pem")
    await server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]", "localhost", "LOCALHOST"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
async def test_any_host_is_reached_whatever_proxies_are_set(
    host: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no ::1")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    server = StandIn()
    await server.start(host=host.lower())
    async with open_store(f"qdrant://{host}:{server.port}", timeout_s=5) as store:
        assert await store.list_catalogs() == []
        assert (await store.check())["engine"] == "qdrant"
    await server.stop()


def test_a_proxy_asked_for_is_taken_to_other_machines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("grpc_proxy", "http://proxy:3128")
    asked: list[dict[str, object]] = []

    def note(**options: object) -> None:
        asked.append(dict(options["grpc_options"]))  # type: ignore[call-overload]

    monkeypatch.setattr(client, "AsyncQdrantClient", note)
    for address in ("qdrant:6334", "qdrant.example:6334"):
        client.connect(parse_address(address), tls=False, api_key="", timeout_s=1)
    assert [each.get("grpc.http_proxy") for each in asked] == [None, "http://proxy:3128"]


@pytest.mark.slow
async def test_calls_outlive_the_restart_of_a_node() -> None:
    server = StandIn()
    await server.start()
    async with open_store(f"qdrant://127.0.0.1:{server.port}", timeout_s=10) as store:
        await build(store, "shop", batch(numbered(5), features(5)))
        async with store.open_version("shop") as pinned:
            restarting = asyncio.create_task(server.restart(away_s=1.0))
            await asyncio.sleep(0.1)
            found, count = await asyncio.gather(pinned.query(features(5)[2], limit=1), pinned.count())
            await pinned.upsert(batch(["new"]))
            await restarting
        assert (found[0].item.id, count) == ("i002", 5)
        assert (await store.get_catalog("shop")).catalog == "shop"
    await server.stop()


@pytest.mark.slow
async def test_a_node_that_is_gone_without_a_word_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_KEEPALIVE_MS", 200)
    monkeypatch.setattr(client, "_PING_TIMEOUT_MS", 200)
    server = StandIn()
    await server.start()
    relay = Relay(server.port)
    async with relay as port, open_store(f"qdrant://127.0.0.1:{port}", timeout_s=8) as store:
        await build(store, "shop", batch(numbered(5), features(5)))
        async with store.open_version("shop") as pinned:
            assert await pinned.count() == 5
            await relay.freeze()
            assert await pinned.count() == 5
    await server.stop()


async def test_a_version_is_spread_as_the_store_or_the_version_says() -> None:
    server = StandIn()
    await server.start()
    options = QdrantOptions(placement=Placement(shards=3, replicas=2, write_consistency=1))
    async with open_store(f"qdrant://127.0.0.1:{server.port}", options=[options]) as store:
        writer = await store.create_version("shop", spec({}))
        await writer.close()
        own = spec({}, placement=Placement(shards=6, write_consistency=2), payload_on_disk=True)
        writer = await store.create_version("shop", own)
        await writer.close()
        assert (await store.list_versions("shop"))[1].spec == own
    first, second = server.created
    assert (first.shard_number, first.replication_factor, first.write_consistency_factor) == (3, 2, 1)
    assert (second.shard_number, second.replication_factor, second.write_consistency_factor) == (6, 2, 2)
    assert (first.on_disk_payload, second.on_disk_payload) == (False, True)
    await server.stop()


@pytest.mark.slow
async def test_a_copy_is_spread_as_it_is_asked_to_be(tmp_path: Path) -> None:
    server = StandIn()
    await server.start()
    async with (
        open_store(f"edge://{tmp_path}/store") as source,
        open_store(f"qdrant://127.0.0.1:{server.port}") as store,
    ):
        made = await build(
            source, "shop", batch(numbered(5), features(5)), spec(placement=Placement(write_consistency=1))
        )
        info = await copy_version(source, store, "shop", placement=Placement(shards=3, replicas=2))
        expected = spec(placement=Placement(shards=3, replicas=2, write_consistency=1))
        assert (info.spec, info.points) == (expected, 5)
        await write_snapshot(source, "shop", tmp_path / "snapshot")
        restored = await restore_snapshot(
            store, tmp_path / "snapshot", placement=Placement(write_consistency=2)
        )
        assert restored.spec == spec(placement=Placement(write_consistency=2))
        assert (await copy_version(source, store, "shop")).spec == made.spec
        for resume, asked in (("v0001", Placement(shards=6)), ("v0002", Placement(replicas=3))):
            begun = await store.create_version("begun", expected)
            await begun.close()
            with pytest.raises(CopyMismatchError, match=r"begun with (shards 3, not 6|replicas 2, not 3)"):
                await copy_version(
                    source, store, "shop", target_catalog="begun", resume=resume, placement=asked
                )
            again = await store.resume_version("begun", resume)
            await again.close()
    created = [(one.shard_number, one.replication_factor) for one in server.created[:2]]
    assert created == [(3, 2), (0, 0)]
    await server.stop()
