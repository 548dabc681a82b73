"""Proxies: the one rule by which every channel of the project goes to its server directly or through one.

Calls go directly, whatever `http_proxy` and `https_proxy` say: these are for the web, and services meet on
networks that no web proxy reaches. Where a server can be reached through a proxy alone, `grpc_proxy` names it
("http://proxy:3128"). Even then calls stay direct to this machine, to Unix sockets, to names without a dot
(containers and neighbours), and to what `no_grpc_proxy` or `no_proxy` names: hosts with everything below
them, IP addresses, networks such as 10.0.0.0/8, each with a port or without, and * for everything. All three
variables are read in small letters, then in capitals.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from cir.address import Address, Target
from cir.errors import InvalidArgument

ChannelOptions = tuple[tuple[str, Any], ...]

#: Of a channel that goes directly to its server.
DIRECT: ChannelOptions = (("grpc.enable_http_proxy", 0),)


def proxy_options(target: Target, environment: Mapping[str, str] = os.environ) -> ChannelOptions:
    """Return the options by which a channel to `target` goes directly, or through the proxy asked for.

    Raises:
        InvalidArgument: `grpc_proxy` holds no URL of a proxy.
    """
    proxy = _variable("grpc_proxy", environment)
    if not proxy or not isinstance(target, Address):
        return DIRECT
    if target.is_loopback or target.host.is_single_label or target.host.is_every_interface:
        return DIRECT
    listed = _variable("no_grpc_proxy", environment) or _variable("no_proxy", environment)
    if any(_matches(rule, target) for rule in re.split(r"[,\s]+", listed) if rule):
        return DIRECT
    return (("grpc.enable_http_proxy", 1), ("grpc.http_proxy", _checked(proxy)))


def _variable(name: str, environment: Mapping[str, str]) -> str:
    return environment.get(name, "").strip() or environment.get(name.upper(), "").strip()


def _checked(proxy: str) -> str:
    """Return the proxy's URL in the form that gRPC takes. Messages leave it out: it may hold a password."""
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        sound = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        sound = False
    if not sound:
        raise InvalidArgument("grpc_proxy holds no proxy that can be used; expected http://host:port")
    return url


def _matches(rule: str, target: Address) -> bool:
    """Return whether an entry of no_proxy names the host, and its port where it has one."""
    if rule == "*":
        return True
    host, port = _split(rule.lower())
    if port and port != str(target.port):
        return False
    bare = target.host.bare.rstrip(".")
    try:
        return ipaddress.ip_address(bare.partition("%")[0]) in ipaddress.ip_network(host, strict=False)
    except ValueError:
        name = host.removeprefix("*").strip(".")
        return bool(name) and (bare == name or bare.endswith(f".{name}"))


def _split(rule: str) -> tuple[str, str]:
    """Split an entry of no_proxy into host and port; the port is empty where it has none."""
    if found := re.fullmatch(r"\[([^\]]*)\](?::([0-9]*))?", rule):
        return found[1], found[2] or ""
    host, _, port = rule.partition(":")
    return (host, port) if port.isdigit() else (rule, "")
