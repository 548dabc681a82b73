"""Pages of the contract: every service, message and enum with its comments, from the descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from cir.combiner.v1 import combiner_pb2
from cir.common.v1 import errors_pb2, model_pb2, payload_pb2, vectors_pb2
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import catalog_pb2, filter_pb2, search_pb2
from http_gateway.rules import routes

Comments = Mapping[str, str]
PAGES: Mapping[str, tuple[str, tuple[FileDescriptor, ...]]] = {
    "search": ("Searching", (search_pb2.DESCRIPTOR, filter_pb2.DESCRIPTOR)),
    "catalogs": ("Catalogs", (catalog_pb2.DESCRIPTOR,)),
    "embedder": ("Embedder", (embedder_pb2.DESCRIPTOR,)),
    "combiner": ("Combiner", (combiner_pb2.DESCRIPTOR,)),
    "common": (
        "Payloads, vectors, models, errors",
        tuple(module.DESCRIPTOR for module in (payload_pb2, vectors_pb2, model_pb2, errors_pb2)),
    ),
}
_PAGE_OF = {file.name: page for page, (_, files) in PAGES.items() for file in files}
_KNOWN = re.compile(r"`[^`]*`|[<>&]|(?<![\w/])([A-Z][A-Za-z]+)(?![\w/])")


def contract_pages(comments: Comments) -> dict[str, str]:
    """Return Markdown by file name; `comments` are those of the contract by full name."""
    return {
        f"contract-{name}.md": "\n".join(_page(title, files, comments)) + "\n"
        for name, (title, files) in PAGES.items()
    }


def _page(title: str, files: tuple[FileDescriptor, ...], comments: Comments) -> Iterator[str]:
    yield f"# {title}\n"
    named = ", ".join(f"`{file.name}`" for file in files)
    yield f"Package `{files[0].package}`: {named}. Over HTTP see [http.md](http.md).\n"
    for file in files:
        for service in file.services_by_name.values():
            yield f"## {service.name} {{#{service.name}}}\n\n{_text(comments[service.full_name])}\n"
            for method in service.methods:
                asked, answered = _type(method.input_type), _type(method.output_type)
                asked = f"stream of {asked}" if method.client_streaming else asked
                answered = f"stream of {answered}" if method.server_streaming else answered
                yield f"### {method.name} {{#{service.name}.{method.name}}}\n"
                yield f"{asked} → {answered}\n"
                yield from (
                    f"- `{route.verb} {route.template}`\n"
                    for route in routes()
                    if (route.service, route.method) == (service.full_name, method.name)
                )
                yield f"\n{_text(comments[method.full_name])}\n"
    for file in files:
        for message in file.message_types_by_name.values():
            yield from _message(message, comments)
        for enum in file.enum_types_by_name.values():
            yield from _enum(enum, comments)


def _message(message: Descriptor, comments: Comments) -> Iterator[str]:
    yield f"## {message.name} {{#{message.name}}}\n\n{_text(comments[message.full_name])}\n"
    if message.fields:
        yield "| field | type | |\n|---|---|---|"
        for field in message.fields:
            yield f"| `{field.name}` | {_field_type(field)} | {_cell(comments[field.full_name])} |"
        yield ""


def _enum(enum: EnumDescriptor, comments: Comments) -> Iterator[str]:
    yield f"## {enum.name} {{#{enum.name}}}\n\n{_text(comments[enum.full_name])}\n"
    yield "| value | number | |\n|---|---|---|"
    for value in enum.values:
        yield f"| `{value.name}` | {value.number} | {_cell(comments[_value_name(enum, value.name)])} |"
    yield ""


def _value_name(enum: EnumDescriptor, value: str) -> str:
    return f"{enum.full_name}.{value}"


def _field_type(field: FieldDescriptor) -> str:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        key, value = inner.fields_by_name["key"], inner.fields_by_name["value"]
        return f"map of {_field_type(key)} to {_field_type(value)}"
    named = inner or field.enum_type
    kind = _type(named) if named is not None else _SCALARS[field.type]
    if field.containing_oneof is not None and not field.containing_oneof.name.startswith("_"):
        return f"{kind}, one of `{field.containing_oneof.name}`"
    optional = field.has_presence and inner is None
    return f"list of {kind}" if field.is_repeated else f"optional {kind}" if optional else kind


def _type(kind: Descriptor | EnumDescriptor) -> str:
    page = _PAGE_OF.get(kind.file.name)
    return f"[{kind.name}](contract-{page}.md#{kind.name})" if page else f"`{kind.full_name}`"


def _text(comment: str) -> str:
    """Return a comment as Markdown: what looks like a tag is none, and names of messages lead to them."""
    return _KNOWN.sub(_linked, comment)


def _linked(match: re.Match[str]) -> str:
    escaped = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    if match[0] in escaped:
        return escaped[match[0]]
    page = _PLACES.get(match[1] or "")
    return f"[{match[1]}](contract-{page}.md#{match[1]})" if page else match[0]


def _cell(comment: str) -> str:
    return _text(comment).replace("|", "\\|")


_SCALARS = {
    getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name
    for name in ("double", "float", "int32", "int64", "uint32", "uint64", "bool", "string", "bytes")
}
# Names that are one word of English, such as Item, are left alone.
_PLACES = {
    name: page
    for page, (_, files) in PAGES.items()
    for file in files
    for name in (*file.message_types_by_name, *file.enum_types_by_name)
    if re.search("[a-z][A-Z]", name)
}
