"""TLS files and keys for the search service's neighbours: what cannot work is told at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from cir.api_key import new_key
from search_service.settings import SearchSettings
from search_service.upstream_access import upstream_access
from service_runtime.errors import StartupError
from tests.service_runtime.certificates import Authority


def test_nothing_is_encrypted_or_sent_unless_set() -> None:
    access = upstream_access(SearchSettings())
    assert (access.tls, access.metadata) == (None, ())


def test_all_of_it(tmp_path: Path) -> None:
    authority, key = Authority(tmp_path, "ca"), new_key()
    own = authority.issue("search")
    access = upstream_access(
        SearchSettings(
            upstream_tls=True,
            upstream_ca=authority.file,
            upstream_certificate=own.certificate,
            upstream_key=own.key,
            upstream_api_key=key,
        )
    )
    assert access.tls == authority.client(own)
    assert access.metadata == (("x-api-key", key),)
    assert key not in repr(access)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"upstream_ca": "ca.pem"}, "set upstream_tls as well"),
        ({"upstream_tls": True, "upstream_ca": "none.pem"}, "upstream_ca .* cannot be read"),
        ({"upstream_tls": True, "upstream_certificate": "ca-a.crt"}, "go together"),
        (
            {"upstream_tls": True, "upstream_certificate": "ca-a.crt", "upstream_key": "ca-b.key"},
            "upstream_key .* is not the private key of upstream_certificate",
        ),
        ({"upstream_api_key": "line\nbreak"}, "upstream_api_key: an API key has printable"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, object], words: str
) -> None:
    authority = Authority(tmp_path, "ca")
    authority.issue("a")
    authority.issue("b")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match=words) as raised:
        upstream_access(SearchSettings(**values))
    assert "\n" not in str(raised.value)
