"""HTTP rules: which call of the contract a request means, and which of its fields the address holds.

The rules are `google.api.Http` (AIP-127). In a path `*` is one part between slashes and `**` the rest of it;
parts are percent-decoded, so that an item's id may hold anything that its resource name may.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from urllib.parse import unquote

from google.api import http_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default

# The modules of the contract register its descriptors.
from cir.search.v1 import catalog_pb2, search_pb2

_PLACEHOLDER = re.compile(r"\{(\w+)(?:=([^}]*))?\}")
_VERBS = ("get", "post", "put", "patch", "delete")
_FILES = (search_pb2.DESCRIPTOR, catalog_pb2.DESCRIPTOR)


class BadPathError(ValueError):
    """A part of a path that is no text in UTF-8."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a call. `template` is the path as the rule writes it, `fields` those that it holds."""

    verb: str
    template: str
    pattern: re.Pattern[str]
    fields: tuple[str, ...]
    has_body: bool
    service: str
    method: str
    request: Descriptor
    response: Descriptor

    @property
    def path(self) -> str:
        """The call's path in gRPC."""
        return f"/{self.service}/{self.method}"

    @property
    def takes_files(self) -> bool:
        """True where the request has fields of bytes, which files may be in place of base64."""
        return self.has_body and _has_bytes(self.request)

    def match(self, raw_path: str) -> Mapping[str, str] | None:
        """Return the fields that a path holds, percent-decoded; None where it is another one's path.

        Raises:
            BadPathError: a part that is no UTF-8.
        """
        found = self.pattern.fullmatch(raw_path)
        if found is None:
            return None
        try:
            return {name: unquote(value, errors="strict") for name, value in found.groupdict().items()}
        except UnicodeDecodeError as error:
            raise BadPathError("the path holds bytes that are no UTF-8") from error


def services() -> Mapping[str, ServiceDescriptor]:
    """Return the services whose calls are answered over HTTP, by full name."""
    return {service.full_name: service for file in _FILES for service in file.services_by_name.values()}


@cache
def routes() -> Sequence[Route]:
    """Return every route of `http.toml`, those with more literal parts first."""
    written = tomllib.loads((files("http_gateway") / "http.toml").read_text())
    http = json_format.ParseDict(written, http_pb2.Http())
    found = [
        route for rule in http.rules for route in _routes(rule.selector, [rule, *rule.additional_bindings])
    ]
    return sorted(found, key=lambda route: -len(_PLACEHOLDER.sub("", route.template)))


def _routes(selector: str, rules: Iterable[http_pb2.HttpRule]) -> Iterable[Route]:
    service, _, method = selector.rpartition(".")
    descriptor = Default().FindServiceByName(service).FindMethodByName(method)
    for rule in rules:
        verb = next(verb for verb in _VERBS if getattr(rule, verb))
        template = getattr(rule, verb)
        names = tuple(found[1] for found in _PLACEHOLDER.finditer(template))
        missing = {name for name in names if name not in descriptor.input_type.fields_by_name}
        if missing or rule.body not in ("", "*"):
            raise ValueError(
                f"http.toml: the rule of {selector} names fields that its request lacks: {missing}"
            )
        yield Route(
            verb.upper(),
            template,
            re.compile(_pattern(template)),
            names,
            bool(rule.body),
            service,
            method,
            descriptor.input_type,
            descriptor.output_type,
        )


@cache
def _has_bytes(descriptor: Descriptor, above: tuple[Descriptor, ...] = ()) -> bool:
    """Return whether a field of bytes is in a message, or in one within it."""
    return any(
        field.type == FieldDescriptor.TYPE_BYTES
        or (
            field.message_type is not None
            and field.message_type not in above
            and _has_bytes(field.message_type, (*above, descriptor))
        )
        for field in descriptor.fields
    )


def _pattern(template: str) -> str:
    """Return the regular expression of a path template."""
    pattern, end = "", 0
    for found in _PLACEHOLDER.finditer(template):
        parts = (found[2] or "*").replace("**", "\0").replace("*", "[^/:]+").replace("\0", ".+")
        pattern += re.escape(template[end : found.start()]) + f"(?P<{found[1]}>{parts})"
        end = found.end()
    return pattern + re.escape(template[end:])
