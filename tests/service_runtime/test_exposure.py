from __future__ import annotations

from pathlib import Path

import pytest

from service_runtime.exposure import is_loopback, warnings
from service_runtime.settings import ServiceSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "::1", "localhost"])
def test_on_loopback_nothing_is_warned_of(host: str) -> None:
    assert is_loopback(host)
    assert warnings(ServiceSettings(host=host)) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "search.internal"])
def test_beyond_it_each_protection_that_is_off_is_named(host: str) -> None:
    tls, keys = Path("server.crt"), Path("keys.toml")
    assert not is_loopback(host)
    assert [
        line.split(f"{host} ")[1][: len(word)]
        for line, word in zip(
            warnings(ServiceSettings(host=host)), ("without TLS", "without API keys"), strict=True
        )
    ] == ["without TLS", "without API keys"]
    assert len(warnings(ServiceSettings(host=host, tls_certificate=tls, tls_key=tls))) == 1
    assert len(warnings(ServiceSettings(host=host, api_keys_file=keys))) == 1
    assert warnings(ServiceSettings(host=host, tls_certificate=tls, api_keys_file=keys)) == []
    assert warnings(ServiceSettings(host=host, tls_certificate=tls, tls_client_ca=tls)) == []
    assert len(warnings(ServiceSettings(host=host, api_keys="a:read:0123456789abcdef"))) == 1
