"""API keys on a running service: accepted callers, refusals, and the log."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from grpc_reflection.v1alpha import reflection_pb2
from structlog.testing import capture_logs

from cir.channel import digest, new_key
from cir.client import Client
from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir.errors import PermissionDenied, RateLimited, Unauthenticated
from cir.requests import Call
from cir_cli.local.readiness import free_ports
from service_runtime.logging import configure_logging
from service_runtime.server import serving
from tests.refused import refused
from tests.service_runtime.probe import (
    COMBINE,
    SERVICE,
    Probe,
    channel,
    combine,
    good_call,
    is_alive,
    reflection_stub,
    settings,
)

pytestmark = pytest.mark.service

INFO = f"/{SERVICE}/GetCombinerInfo"
READ, WRITE = new_key(), new_key()
DIRECT = f"shop:read:{READ},indexer:write:{WRITE}"


def key_file(path: Path, *keys: tuple[str, str, str]) -> Path:
    entries = [{"name": name, "scope": scope, "sha256": digest(key).hex()} for name, scope, key in keys]
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"keys": entries}))
    return partial.replace(path)


async def test_without_a_known_key_nothing_is_done() -> None:
    application = Probe()
    async with serving(application, settings(api_keys=DIRECT)) as address, channel(address) as on:
        for key, words in (("", "API key is needed"), (new_key(), "not known"), (READ[:-1], "not known")):
            refusal = await refused(combine(on, key))
            assert (refusal.code.name, refusal.reason) == ("UNAUTHENTICATED", "KEY_MISSING")
            assert words in refusal.message
            assert not key or key not in refusal.message
        assert application.calls == 0
        assert await good_call(address, key=READ) == "shop"
        assert await good_call(address, key=WRITE) == "indexer"


async def test_health_and_reflection_need_no_key() -> None:
    async with serving(Probe(), settings(api_keys=DIRECT)) as address, channel(address) as on:
        assert await is_alive(address)
        call = reflection_stub(on).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        async for answer in call:
            assert answer.list_services_response.service
            break
        call.cancel()


async def test_writing_needs_the_write_scope() -> None:
    application = Probe(write_methods=frozenset({COMBINE}))
    async with serving(application, settings(api_keys=DIRECT)) as address, channel(address) as on:
        refusal = await refused(combine(on, READ))
        assert (refusal.code.name, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
        assert "shop has the scope read" in refusal.message
        assert application.calls == 0
        assert (await combine(on, WRITE)).combiner == "indexer"
        # Write includes read.
        info = rpc.CombinerServiceStub(on).GetCombinerInfo
        for key in (READ, WRITE):
            await info(pb.GetCombinerInfoRequest(), metadata=(("x-api-key", key),))


async def test_a_key_is_changed_without_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service_runtime.watched_files.CHECK_SECONDS", 0)
    old, new = new_key(), new_key()
    path = key_file(tmp_path / "keys.json", ("shop", "read", old))
    async with serving(Probe(), settings(api_keys_file=path)) as address, channel(address) as on:
        assert (await combine(on, old)).combiner == "shop"
        assert (await refused(combine(on, new))).reason == "KEY_MISSING"
        key_file(path, ("shop", "read", old), ("shop", "read", new))
        assert {(await combine(on, key)).combiner for key in (old, new)} == {"shop"}
        with capture_logs() as logs:
            path.write_text("{ half a file")
            assert {(await combine(on, key)).combiner for key in (old, new)} == {"shop"}
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
            "changed files not used"
        ]
        key_file(path, ("shop", "read", new))
        assert (await refused(combine(on, old))).reason == "KEY_MISSING"
        assert (await combine(on, new)).combiner == "shop"


async def test_the_log_has_names_and_addresses_and_never_a_key() -> None:
    unknown = new_key()
    with capture_logs() as logs:
        async with serving(Probe(), settings(api_keys=DIRECT)) as address, channel(address) as on:
            await combine(on, READ)
            await refused(combine(on, unknown))
    text = repr(logs)
    for key in (READ, WRITE, unknown):
        assert key not in text
        assert digest(key).hex() not in text
    [served, turned_away] = [entry for entry in logs if entry["event"] == "call"]
    assert served["code"] == "OK"
    assert (turned_away["code"], turned_away["reason"]) == ("UNAUTHENTICATED", "KEY_MISSING")


async def test_log_lines_of_a_call_name_its_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = structlog.get_config()
    configure_logging("info", "json")
    try:
        async with serving(Probe(), settings(api_keys=DIRECT)) as address, channel(address) as on:
            await combine(on, READ)
            await refused(combine(on))
    finally:
        structlog.configure(**before)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    served, turned_away = [line for line in lines if line["event"] == "call"]
    assert (served["key"], "peer" in served) == ("shop", False)
    assert turned_away["peer"].startswith("ipv4:127.0.0.1:")
    assert "key" not in turned_away


async def test_a_call_without_a_key_is_refused_before_its_message_is_read() -> None:
    """A message that never ends would otherwise hold memory for any caller."""
    application = Probe()
    async with serving(application, settings(api_keys=DIRECT)) as address, channel(address) as on:
        # No half-close and no message: only what the headers say can have been looked at.
        call: Any = on.stream_stream(COMBINE)(timeout=10)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await good_call(address, key=READ) == "shop"


async def test_each_key_has_its_rate_and_refusals_are_counted() -> None:
    [metrics] = free_ports(1)
    values = settings(api_keys=DIRECT, rate_limit_per_second=0.1, rate_limit_burst=2, metrics_port=metrics)
    async with serving(Probe(), values) as address, channel(address) as on:
        for _ in range(2):
            await combine(on, READ)
        refusal = await refused(combine(on, READ))
        assert (refusal.code.name, refusal.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert refusal.retry_after is not None
        assert 5 < refusal.retry_after <= 10
        assert "key shop" in refusal.message
        # Others are not held up, and probes are never counted.
        assert (await combine(on, WRITE)).combiner == "indexer"
        assert all([await is_alive(address) for _ in range(5)])
        await refused(combine(on))
        url = f"http://127.0.0.1:{metrics}/metrics"
        page = (await asyncio.to_thread(urllib.request.urlopen, url)).read().decode()
        assert 'cir_refusals_total{reason="RATE_LIMITED"} 1.0' in page
        assert 'cir_refusals_total{reason="KEY_MISSING"} 1.0' in page


async def test_without_keys_addresses_have_the_rate() -> None:
    async with (
        serving(Probe(), settings(rate_limit_per_second=0.1, rate_limit_burst=1)) as address,
        channel(address) as first,
        channel(address) as second,
    ):
        await combine(first)
        # Another connection of the same machine is the same caller.
        assert (await refused(combine(second))).message.startswith("peer 127.0.0.1 ")


async def test_our_client_raises_a_class_for_each_refusal() -> None:
    application = Probe(write_methods=frozenset({INFO}))
    values = settings(api_keys=DIRECT, rate_limit_per_second=0.1, rate_limit_burst=1)
    async with serving(application, values) as address:
        call = Call(COMBINE, pb.CombineRequest(), pb.CombineResponse, lambda answer: answer.combiner)

        info = Call(INFO, pb.GetCombinerInfoRequest(), pb.GetCombinerInfoResponse, lambda answer: answer)

        def outcomes(key: str) -> list[str]:
            kinds = []
            with Client(address, combiner=address, api_key=key, timeout=5) as client:
                for asked in (call, call, info):
                    try:
                        kinds.append(client.run(asked))
                    except (Unauthenticated, RateLimited, PermissionDenied) as error:
                        kinds.append(type(error).__name__)
            return kinds

        assert await asyncio.to_thread(outcomes, "") == ["Unauthenticated"] * 3
        assert await asyncio.to_thread(outcomes, READ) == ["shop", "RateLimited", "PermissionDenied"]
