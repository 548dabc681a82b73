"""Which addresses may be asked."""

from __future__ import annotations

import pytest

from service_runtime.web_images import UrlNotAllowed, UrlRules


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("a.example", "https://a.example/x.jpg"),
        ("a.example", "http://A.EXAMPLE:80/x.jpg"),
        ("*.example", "https://b.a.example/x"),
        ("a.example:8080", "http://a.example:8080/"),
    ],
)
def test_allowed(rule: str, url: str) -> None:
    UrlRules((rule,)).check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://b.example/x",
        "https://a.example.evil/x",
        "https://xa.example/x",
        "https://a.example:8443/x",
        "ftp://a.example/x",
        "file:///etc/passwd",
        "https://user:word@a.example/x",
        "https://a.example@evil/x",
        "https:///x",
        "https://a.example:99999/x",
        "https://[::1/x",
        "https://a.example/x y",
        "https://a.example/x\r\nHost: b",
        "https://а.example/x",  # a Cyrillic letter
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        UrlRules(("a.example",)).check_url(url)


def test_nothing_is_allowed_by_default() -> None:
    with pytest.raises(UrlNotAllowed, match="`allow_hosts`"):
        UrlRules().check_url("https://a.example/x")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_inside_are_refused_unless_private_ones_are_allowed(address: str) -> None:
    with pytest.raises(UrlNotAllowed, match="`allow_private_hosts`"):
        UrlRules().check_address("a.example", address)
    UrlRules(private=True).check_address("a.example", address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_public_addresses_are_fine(address: str) -> None:
    UrlRules().check_address("a.example", address)
