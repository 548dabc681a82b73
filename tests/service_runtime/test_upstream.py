"""Refusals of a caller when another service refuses this one."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest

from cir.channel import new_key
from cir.common.v1 import errors_pb2
from cir.errors import from_rpc_error
from service_runtime.errors import ServiceError
from service_runtime.server import serving
from service_runtime.upstream import to_service_error
from tests.service_runtime.certificates import Authority
from tests.service_runtime.probe import COMBINE, Probe, channel, combine, settings

pytestmark = pytest.mark.service

KEY = new_key()


async def refusal_of(
    address: str, key: str = "", credentials: grpc.ChannelCredentials | None = None
) -> ServiceError:
    """The refusal that a caller gets for a call of ours that fails."""
    async with channel(address, credentials) as on:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await combine(on, key)
    return to_service_error(
        from_rpc_error(raised.value, address=address, timeout=10),
        service="embedder",
        address=address,
        unavailable=errors_pb2.EMBEDDER_UNAVAILABLE,
    )


async def test_a_rate_that_this_service_used_up_is_overload_to_its_caller() -> None:
    async with serving(Probe(), settings(rate_limit_per_second=0.1, rate_limit_burst=1)) as address:
        async with channel(address) as on:
            await combine(on)
        error = await refusal_of(address)
        assert error.reason == errors_pb2.OVERLOADED
        assert error.retry_after is not None
        assert 5 < error.retry_after <= 10


async def test_keys_and_scopes_of_this_service_are_not_its_callers_fault() -> None:
    application = Probe(write_methods=frozenset({COMBINE}))
    async with serving(application, settings(api_keys=f"search:read:{KEY}")) as address:
        for key in ("", new_key(), KEY):
            error = await refusal_of(address, key)
            assert error.reason == errors_pb2.EMBEDDER_UNAVAILABLE
            assert "correct upstream_api_key" in error.message


async def test_certificates_of_this_service_are_not_its_callers_fault(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("server")
    values = settings(tls_certificate=pair.certificate, tls_key=pair.key)
    async with serving(Probe(), values) as address:
        error = await refusal_of(address, credentials=Authority(tmp_path, "other").credentials())
        assert error.reason == errors_pb2.EMBEDDER_UNAVAILABLE
        assert "correct upstream_tls" in error.message
