"""Hosts and addresses: every spelling of a place is one value, what is no place is refused."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cir.address import (
    Address,
    Host,
    Replicas,
    UnixSocket,
    parse_address,
    parse_host,
    parse_listener,
    parse_target,
)
from cir.channel import recipe
from cir.errors import InvalidArgument

_PORTS = st.integers(1, 65535)
_IPV6 = st.ip_addresses(v=6).map(str)
_LABELS = st.from_regex(r"[a-z0-9_](?:[a-z0-9_-]{0,10}[a-z0-9_])?", fullmatch=True)
_NAMES = st.lists(_LABELS, min_size=1, max_size=4).map(".".join).filter(
    lambda name: not name.rpartition(".")[2].isdigit()
)  # fmt: skip


@given(_IPV6, _PORTS)
def test_every_spelling_of_an_ipv6_address_is_one(ip: str, port: int) -> None:
    whole = ipaddress.ip_address(ip).exploded
    expected = Host(str(ipaddress.ip_address(ip)))
    for spelling in (ip, whole, whole.upper(), f"[{ip}]", f"[{whole}]", f"dns:[{ip}]", f"dns:///{ip}"):
        assert parse_host(spelling) == expected
        assert parse_listener(spelling, port) == Address(expected, port)
    for host in (f"[{ip}]", f"[{whole.upper()}]"):
        for target in (host, f"dns:{host}", f"dns:///{host}", f"ipv6:{host}"):
            assert parse_target(f"{target}:{port}") == Address(expected, port)
    assert str(Address(expected, port)) == f"[{expected.bare}]:{port}"


@given(st.one_of(st.ip_addresses(v=4).map(str), _NAMES), _PORTS)
def test_every_spelling_of_a_name_or_an_ipv4_address_is_one(name: str, port: int) -> None:
    expected = Address(parse_host(name), port)
    assert str(expected) == f"{name}:{port}"
    for scheme in ("", "dns:", "dns:///", "DNS:///"):
        assert parse_host(f"{scheme}{name.upper()}") == expected.host
        assert parse_target(f"{scheme}{name.upper()}:{port}") == expected
        assert parse_target(f"{scheme}{name}:0{port}"[: len(scheme + name) + 7]) == expected


@given(st.one_of(_NAMES.map(Host), _IPV6.map(lambda ip: parse_host(ip))), _PORTS)
def test_what_is_written_is_read_again(host: Host, port: int) -> None:
    assume(host == parse_host(host.bare))
    address = Address(host, port)
    assert parse_host(str(host)) == parse_host(host.bare) == host
    assert (
        parse_target(str(address)) == parse_address(str(address)) == parse_target(recipe(str(address)).target)
    )


_PIECES = st.sampled_from(
    ["dns:", "///", "unix:", "ipv4:", "[", "]", ":", "::1", "%", "@", ",", ".", "a", "1", "\n"]
)


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=8).map("".join)))
@example("\n://")
@example("DNS:DNS:1")
@example("dns:unix:5")
@example("dns:ipv6")
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but `InvalidArgument` in one line, and what is read is read again as the same."""
    with suppress(InvalidArgument):
        found = parse_target(text)
        assert parse_target(str(found)) == found
        return
    with pytest.raises(InvalidArgument, match=r"\A[^\n]*\Z"):
        parse_target(text)


@pytest.mark.parametrize(
    "spelling", ["unix:/run/cir.sock", "unix:///run/cir.sock", "UNIX:/run/./x/../cir.sock"]
)
def test_every_spelling_of_a_socket_is_one(spelling: str) -> None:
    assert parse_target(spelling) == parse_listener(spelling, 50050) == UnixSocket("/run/cir.sock")


def test_sockets_may_be_relative_or_abstract(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert (
        parse_target("unix:cir.sock") == parse_target("unix:./cir.sock") == UnixSocket(f"{tmp_path}/cir.sock")
    )
    abstract = parse_target("unix-abstract:cir")
    assert abstract == parse_target("unix:@cir")
    assert isinstance(abstract, UnixSocket)
    assert (str(abstract), abstract.bare) == ("unix-abstract:cir", "\0cir")


def test_replicas_without_a_name() -> None:
    pair = parse_target("ipv4:10.0.0.1:50050,10.0.0.2:50051")
    assert pair == Replicas((Address(Host("10.0.0.1"), 50050), Address(Host("10.0.0.2"), 50051)))
    assert str(parse_target("ipv6:%5B::1%5D:1,[::2]:2")) == "ipv6:[::1]:1,[::2]:2"
    assert parse_target("ipv4:10.0.0.1:50050") == parse_target("10.0.0.1:50050")


@pytest.mark.parametrize("target", ["xds:///search", "dns://8.8.8.8/search:1", "vsock:2:1"])
def test_targets_of_grpc_alone_stay_as_they_are(target: str) -> None:
    assert recipe(target).target == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no port"),
        (":50050", "the host is empty"),
        ("127.0.0.1:99999", "port '99999' is not a number from 1 to 65535"),
        ("127.0.0.1:0", "port '0' is not"),
        ("127.0.0.1:-1", "port '-1' is not"),
        ("127.0.0.1:٣", "port '٣' is not"),
        ("127.0.0.1:50050/", "port '50050/' is not"),
        ("localhost", "names no port"),
        ("[::1]", "names no port"),
        ("::1", "with an IPv6 address in brackets"),
        ("::1:5005", "with an IPv6 address in brackets"),
        ("[localhost]:1", "brackets are for an IPv6 address alone"),
        ("[::1:1", "brackets"),
        ("http://localhost:1", "without http://"),
        ("256.0.0.1:1", "four numbers from 0 to 255"),
        ("127.1:1", "four numbers"),
        ("a b:1", "no name and no IP address"),
        ("a..b:1", "no name and no IP address"),
        ("user@host:1", "no name and no IP address"),
        ("*:1", "no name and no IP address"),
        ("ipv4:10.0.0.1:1,10.0.0.2:70000", "port '70000'"),
        ("ipv4:[::1]:1", "no IPv4 address"),
        ("ipv6:127.0.0.1:1,[::1]:2", "no IPv6 address"),
        ("unix:", "names no path"),
        ("unix://run/cir.sock", "expected unix:/absolute/path"),
        ("unix:/a?b", "may have no %"),
        ("unix:/" + "a" * 120, "has more than the 107 bytes"),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse_target(text)


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:50050", "[::1]:50050", "http://localhost", "a/b", "[]", "[::1"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="host"):
        parse_host(text)


def test_names_that_are_not_ascii_are_those_that_resolvers_know() -> None:
    assert parse_target("Bücher.example:1") == Address(Host("xn--bcher-kva.example"), 1)


def test_link_local_addresses_keep_their_zone() -> None:
    address = parse_target("[fe80::1%25eth0]:1")
    assert address == parse_target("[fe80::1%eth0]:1") == Address(Host("fe80::1%eth0"), 1)
    assert str(address) == "[fe80::1%eth0]:1"
    assert recipe("[fe80::1%eth0]:1").target == "dns:///[fe80::1%25eth0]:1"
    assert Address(Host("fe80::1%eth0"), 1).url == "http://[fe80::1%25eth0]:1"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("localhost", True), ("LOCALHOST.", True), ("shop.localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("search", False),
        ("localhost.example", False),
    ],
)  # fmt: skip
def test_loopback_is_what_no_other_machine_reaches(host: str, loopback: bool) -> None:
    assert parse_host(host).is_loopback is loopback


def test_a_listener_on_every_interface_is_dialled_here() -> None:
    assert [parse_host(host).dialled.bare for host in ("0.0.0.0", "[::]", "::", "::1", "shop")] == [
        *("127.0.0.1", "localhost", "localhost", "::1", "shop")
    ]  # fmt: skip
