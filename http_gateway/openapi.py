"""The description of every route (OpenAPI 3.1): descriptors, comments and HTTP rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from cir.enum_names import short_names
from cir.update_mask import MAX_PATHS
from http_gateway.body import FORM, JSON
from http_gateway.multipart import REQUEST
from http_gateway.rules import Route, routes

Comments = Mapping[str, str]
_INTEGERS: Mapping[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    # JSON of protobuf writes integers of 64 bits as texts.
    FieldDescriptor.TYPE_INT64: {"type": ["string", "integer"], "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": ["string", "integer"], "format": "uint64"},
}
_SCALARS: Mapping[int, dict[str, Any]] = {
    **_INTEGERS,
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "description": "Base64, or a data URL."},
}
_VALUE = {
    "description": "A payload value: null, true, a number, a text, a moment, a place, or a list of one kind.",
    "anyOf": [
        {"type": ["null", "boolean", "number", "string"]},
        {
            "type": "object",
            "properties": {"datetime": {"type": "string", "format": "date-time"}},
            "required": ["datetime"],
        },
        {
            "type": "object",
            "properties": {"latitude": {"type": "number"}, "longitude": {"type": "number"}},
            "required": ["latitude", "longitude"],
        },
        {"type": "array", "items": {"type": ["boolean", "number", "string", "object"]}},
    ],
}
_KNOWN: Mapping[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "description": "Seconds, such as 0.012s."},
    "google.protobuf.FieldMask": {
        "description": "A list of paths, or a text with commas between them. Names of payload fields are "
        "taken as they stand. A mask without paths is left out.",
        "anyOf": [
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_PATHS},
            {"type": "string", "minLength": 1},
        ],
    },
    "cir.common.v1.Value": _VALUE,
    "cir.common.v1.Payload": {
        "type": "object",
        "description": "Values by field name.",
        "additionalProperties": {"$ref": "#/components/schemas/Value"},
    },
}


@dataclass(frozen=True, slots=True)
class _Side:
    """Schemas of what is asked, or of what is answered, where fields without presence are always there."""

    comments: Comments
    schemas: dict[str, Any]
    answers: bool

    def name(self, descriptor: Descriptor) -> str:
        """Return the name of a message's schema; those that are on both sides have two."""
        return descriptor.name + ("" if self.answers or descriptor.full_name not in _answered() else "Input")


@cache
def _answered() -> Set[str]:
    """Return the full names of the messages that are in answers."""
    found: dict[str, Descriptor] = {}
    left = [route.response for route in routes()]
    while left:
        one = left.pop()
        if one.full_name not in found and one.full_name not in _KNOWN:
            found[one.full_name] = one
            left += [field.message_type for field in one.fields if field.message_type is not None]
    return found.keys()


def build(comments: Comments, version: str) -> dict[str, Any]:
    """Return the description; `comments` are those of the contract by full name."""
    schemas: dict[str, Any] = {"Value": _VALUE, "Status": _status()}
    paths: dict[str, Any] = {"/v1/embeddings": _EMBEDDINGS}
    for route in routes():
        path = re.sub(r"\{(\w+)(=[^}]*)?\}", r"{\1}", route.template)
        # Resources of several kinds may share a place: their parameters have other names.
        operations = paths.setdefault(_spelled(route, path), {})
        operations[route.verb.lower()] = _operation(route, comments, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Composed image retrieval", "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {
                "Refusal": {
                    "description": "The call was refused. 429 and 503 come with Retry-After.",
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Status"}}},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _spelled(route: Route, path: str) -> str:
    """Return a path with its resource names spelled out: {name=catalogs/*} is catalogs/{catalog}."""
    for name in route.fields:
        found = re.search(rf"\{{{name}=([^}}]*)\}}", route.template)
        if found is None:
            continue
        parts = found[1].split("/")
        spelled = [
            f"{{{parts[place - 1].rstrip('s')}}}" if part in ("*", "**") else part
            for place, part in enumerate(parts)
        ]
        path = path.replace(f"{{{name}}}", "/".join(spelled))
    return path


def _operation(route: Route, comments: Comments, schemas: dict[str, Any]) -> dict[str, Any]:
    requests, answers = _Side(comments, schemas, answers=False), _Side(comments, schemas, answers=True)
    text = comments.get(f"{route.service}.{route.method}", "")
    path = _spelled(route, re.sub(r"\{(\w+)(=[^}]*)?\}", r"{\1}", route.template))
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    operation: dict[str, Any] = {
        "operationId": route.method if route.template.count(":list") == 0 else f"{route.method}ByFilter",
        "tags": [route.service.rpartition(".")[2]],
        "summary": text.partition(". ")[0].rstrip("."),
        "description": text,
        "responses": {
            "200": {
                "description": comments.get(route.response.full_name, "") or "The answer.",
                "content": {JSON: {"schema": _message(route.response, answers)}},
            },
            "default": {"$ref": "#/components/responses/Refusal"},
        },
    }
    if route.has_body:
        body = _message(route.request, requests)
        content = {JSON: {"schema": body}} | ({FORM: _form(body)} if route.takes_files else {})
        operation["requestBody"] = {"content": content}
    else:
        parameters += [
            {
                "name": field.json_name,
                "in": "query",
                "description": comments.get(field.full_name, ""),
                "schema": _field(field, requests),
            }
            for field in route.request.fields
            if field.name not in route.fields and field.message_type is None
        ]
    return operation | ({"parameters": parameters} if parameters else {})


def _form(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of a request: itself in one part, and files."""
    return {
        "schema": {
            "type": "object",
            "description": "The request as JSON without its images, and each image as a file, named by the "
            "path of the field that it is: turns[0].reference.image, items[0].content, input[0].",
            "properties": {REQUEST: request},
            "additionalProperties": {"type": "string", "contentMediaType": "application/octet-stream"},
        },
        "encoding": {REQUEST: {"contentType": JSON}},
    }


def _message(descriptor: Descriptor, side: _Side) -> dict[str, Any]:
    if descriptor.full_name in _KNOWN:
        return (
            _KNOWN[descriptor.full_name]
            if descriptor.name != "Value"
            else {"$ref": "#/components/schemas/Value"}
        )
    name, schemas = side.name(descriptor), side.schemas
    if name not in schemas:
        schemas[name] = {}
        always = [field.json_name for field in descriptor.fields if not field.has_presence]
        schemas[name] = {
            "type": "object",
            "description": side.comments.get(descriptor.full_name, ""),
            "additionalProperties": False,
            "properties": {
                field.json_name: _described(_field(field, side), side.comments.get(field.full_name, ""))
                for field in descriptor.fields
            },
        } | ({"required": always} if side.answers and always else {})
    return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: dict[str, Any], comment: str) -> dict[str, Any]:
    """Return the schema of a field with the contract's comment before its own description."""
    return {"description": "", **schema} | {
        "description": f"{comment} {schema.get('description', '')}".strip()
    }


def _field(field: FieldDescriptor, side: _Side) -> dict[str, Any]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return {
            "type": "object",
            "additionalProperties": _single(inner.fields_by_name["value"], side),
        }
    single = _single(field, side)
    return {"type": "array", "items": single} if field.is_repeated else single


def _single(field: FieldDescriptor, side: _Side) -> dict[str, Any]:
    if field.message_type is not None:
        return _message(field.message_type, side)
    if field.enum_type is not None:
        return _enum(field.enum_type, side)
    return dict(_SCALARS[field.type])


def _enum(descriptor: EnumDescriptor, side: _Side) -> dict[str, Any]:
    if descriptor.full_name == "google.protobuf.NullValue":
        return {"type": "null"}
    side.schemas[descriptor.name] = {
        "type": "string",
        "description": side.comments.get(descriptor.full_name, ""),
        "enum": list(short_names(descriptor)),
    }
    return {"$ref": f"#/components/schemas/{descriptor.name}"}


def _status() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "google.rpc.Status: a gRPC code, words, and details: the reason, the field at fault.",
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
    }


_EMBEDDED = {
    "type": "object",
    "properties": {
        "input": {"type": ["string", "array"], "items": {"type": "string"}},
        "model": {"type": "string"},
        "encoding_format": {"enum": ["float", "base64"]},
        "user": {"type": "string"},
    },
}
_EMBEDDINGS = {
    "post": {
        "operationId": "Embeddings",
        "summary": "Embed texts and images, in the shape that OpenAI's clients send.",
        "description": "Images are data URLs with base64. `model` is not looked at: the embedder holds one.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": _EMBEDDED},
                FORM: _form(_EMBEDDED),
            },
        },
        "responses": {
            "200": {
                "description": "The embeddings, in order.",
                "content": {JSON: {"schema": {"type": "object"}}},
            },
            "default": {"$ref": "#/components/responses/Refusal"},
        },
    }
}
