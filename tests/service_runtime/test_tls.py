"""TLS settings that cannot work are told before the port opens; changed files are used."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from service_runtime.server import serving
from service_runtime.settings import ServiceSettings
from service_runtime.startup import StartupError
from service_runtime.tls import server_credentials
from tests.service_runtime.certificates import Authority
from tests.service_runtime.probe import Probe, good_call, settings


def test_without_settings_there_is_no_tls() -> None:
    assert server_credentials(ServiceSettings()) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tls_key": None}, "tls_certificate is set without tls_key"),
        ({"tls_certificate": None}, "tls_key is set without tls_certificate"),
        (
            {"tls_certificate": None, "tls_key": None, "tls_client_ca": "ca"},
            "tls_client_ca is set without TLS",
        ),
        ({"tls_certificate": "none"}, r"tls_certificate \S*none cannot be read: No such file"),
        ({"tls_key": "none"}, r"tls_key \S*none cannot be read: No such file"),
        ({"tls_key": "folder"}, r"tls_key \S*folder cannot be read: Is a directory"),
        ({"tls_certificate": "text"}, r"tls_certificate \S*text holds no PEM certificate"),
        ({"tls_key": "other key"}, r"tls_key \S*other.key is not the private key of tls_certificate"),
        ({"tls_key": "text"}, r"tls_key \S*text is not the private key of tls_certificate"),
        ({"tls_key": "locked"}, r"tls_key \S*locked is not the private key .* without a password"),
        ({"tls_client_ca": "text"}, r"tls_client_ca \S*text holds no PEM certificate"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    tmp_path: Path, change: dict[str, str | None], words: str
) -> None:
    authority = Authority(tmp_path, "ca")
    pair, other = authority.issue("server"), authority.issue("other")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a certificate")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    (tmp_path / "locked").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    files = {
        "ca": authority.file,
        "other key": other.key,
        **{name: tmp_path / name for name in ("none", "folder", "text", "locked")},
    }
    values: dict[str, Path | None] = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    values |= {name: files[value] if value else None for name, value in change.items()}
    with pytest.raises(StartupError, match=words) as raised:
        server_credentials(ServiceSettings(**values))
    assert "\n" not in str(raised.value)


async def test_a_replaced_certificate_is_used_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_runtime.watched_files.LOOK_SECONDS", 0)
    before, after = Authority(tmp_path, "before"), Authority(tmp_path, "after")
    pair = before.issue("server")
    values = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    async with serving(Probe(), settings(**values)) as address:
        assert await good_call(address, before.credentials()) == "nobody"
        # Half of the change: the new certificate with the old key.
        replacement = after.issue("server")
        with capture_logs() as logs:
            pair.certificate.write_bytes(replacement.certificate.read_bytes())
            assert await good_call(address, before.credentials()) == "nobody"
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
            "changed files not used"
        ]
        pair.key.write_bytes(replacement.key.read_bytes())
        assert await good_call(address, after.credentials()) == "nobody"
        with pytest.raises(grpc.aio.AioRpcError):
            await good_call(address, before.credentials())


async def test_a_replaced_authority_of_clients_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_runtime.watched_files.LOOK_SECONDS", 0)
    servers, before, after = (Authority(tmp_path, name) for name in ("servers", "before", "after"))
    pair = servers.issue("server")
    clients = tmp_path / "clients.pem"
    clients.write_bytes(before.file.read_bytes())
    values = {"tls_certificate": pair.certificate, "tls_key": pair.key, "tls_client_ca": clients}

    def credentials(authority: Authority) -> grpc.ChannelCredentials:
        own = authority.issue("client")
        return grpc.ssl_channel_credentials(
            servers.file.read_bytes(), own.key.read_bytes(), own.certificate.read_bytes()
        )

    async with serving(Probe(), settings(**values)) as address:
        assert await good_call(address, credentials(before)) == "nobody"
        clients.write_bytes(after.file.read_bytes())
        assert await good_call(address, credentials(after)) == "nobody"
        with pytest.raises(grpc.aio.AioRpcError):
            await good_call(address, credentials(before))
