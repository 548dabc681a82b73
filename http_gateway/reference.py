"""The description of every route, as it is served: JSON, and a page that needs nothing from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
html { color-scheme: light dark; }
summary { cursor: pointer; padding: .3rem 0; } summary code { font-size: 1rem; }
b { display: inline-block; min-width: 4.5rem; } pre { overflow-x: auto; padding: .8rem; border: 1px solid; }
dd { margin: 0 0 .4rem 1.5rem; }
"""


@cache
def openapi_text() -> str:
    """Return the description as JSON."""
    return (files("http_gateway") / "openapi.json").read_text()


@cache
def page() -> str:
    """Return the description as HTML."""
    described = json.loads(openapi_text())
    calls = "".join(
        _call(path, verb, operation)
        for path, operations in described["paths"].items()
        for verb, operation in operations.items()
    )
    schemas = "".join(_schema(name, schema) for name, schema in described["components"]["schemas"].items())
    title = escape(described["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>Version {escape(described['info']['version'])}. For programs: "
        '<a href="openapi.json">openapi.json</a>. Keys: <code>Authorization: Bearer KEY</code> or '
        f"<code>x-api-key</code>.</p><h2>Calls</h2>{calls}<h2>Messages</h2>{schemas}</html>"
    )


def _call(path: str, verb: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<dt><code>{escape(one['name'])}</code> ({one['in']})</dt>"
        f"<dd>{escape(one.get('description', ''))}</dd>"
        for one in operation.get("parameters", ())
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    takes = f"<p>Takes {_link(body)}.</p>" if "$ref" in body else ""
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    gives = f"<p>Gives {_link(answer)}.</p>" if "$ref" in answer else ""
    return (
        f"<details><summary><b>{verb.upper()}</b> <code>{escape(path)}</code></summary>"
        f"<p>{escape(operation.get('description', ''))}</p><dl>{parameters}</dl>{takes}{gives}</details>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    fields = "".join(
        f"<dt><code>{escape(field)}</code> {_link(one)}</dt><dd>{escape(one.get('description', ''))}</dd>"
        for field, one in schema.get("properties", {}).items()
    )
    values = ", ".join(schema.get("enum", ()))
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<p>{escape(schema.get('description', ''))} {escape(values)}</p><dl>{fields}</dl></details>"
    )


def _link(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if schema.get("type") == "array":
        return f"list of {_link(schema['items'])}"
    kind = schema.get("type", "")
    return escape(kind if isinstance(kind, str) else " or ".join(kind))
