"""Generate the methods of both Python clients from the calls, or with --check report whether they are stale.

A call is described once, as data, by a function of `cir.requests`, `cir.create` or `cir.feature_calls`.
Editors and notebooks show signatures and docstrings only of methods that are written out, so they are
written here.

Usage: python scripts/generate_client.py [--check]
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Methods in order: the name, the module and the function that builds the call, and for methods that make
#: several calls of it, what they return ("pages", "entries", "list") and a docstring of their own.
METHODS: tuple[tuple[str, ...], ...] = (
    ("search", "requests", "search"),
    (
        *("search_pages", "requests", "search", "pages"),
        "Search, and go on page by page, each fetched when it is asked for.\n\n"
        "The arguments are those of `search`; `page_size` is the number of results in a page.",
    ),
    ("batch_search", "requests", "batch_search"),
    ("info", "requests", "info"),
    (
        "catalogs",
        "requests",
        "list_catalogs",
        "list",
        "All catalogs, by name; `page_size` are fetched at a time.",
    ),
    ("catalog", "requests", "catalog"),
    (
        *("versions", "requests", "list_versions", "list"),
        "All versions of a catalog, newest first; `page_size` are fetched at a time.",
    ),
    ("create_catalog", "create", "create_catalog"),
    ("create_version", "create", "create_version"),
    ("finish_version", "create", "finish_version"),
    ("abort_version", "create", "abort_version"),
    ("add_fields", "create", "add_fields"),
    ("publish", "requests", "publish"),
    ("rollback", "requests", "rollback"),
    ("delete_version", "requests", "delete_version"),
    ("delete_catalog", "requests", "delete_catalog"),
    ("item", "requests", "item"),
    ("items", "requests", "items"),
    ("list_items", "requests", "list_items"),
    (
        *("all_items", "requests", "list_items", "entries"),
        "Every item that passes a filter, one by one; `page_size` are fetched at a time, when needed.",
    ),
    ("facets", "requests", "facets"),
    ("upsert", "requests", "upsert"),
    ("update", "requests", "update"),
    ("delete", "requests", "delete"),
    ("delete_where", "requests", "delete_where"),
    ("embedder_info", "feature_calls", "embedder_info"),
    ("embed_images", "feature_calls", "embed_images"),
    ("embed_texts", "feature_calls", "embed_texts"),
    ("embed_prompts", "feature_calls", "embed_prompts"),
    ("embed_queries", "feature_calls", "embed_queries"),
    (
        *("combiners", "feature_calls", "list_combiners", "list"),
        "All combiners by name, those included that cannot be used; `page_size` are fetched at a time.",
    ),
    ("combine", "feature_calls", "combine"),
)

_HEAD = {
    "client_methods.py": '''
"""Methods of the blocking client, one for each call. Written by scripts/generate_client.py; do not edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

Answer = TypeVar("Answer")
Paged = TypeVar("Paged", bound="Page[Any] | SearchAnswer")


class ClientMethods(ABC):
    """The calls as methods; a client says how one is carried out."""

    @abstractmethod
    def run(self, call: Call[Answer]) -> Answer:
        """Carry a call out."""

    @abstractmethod
    def run_pages(self, call: Call[Paged]) -> Iterator[Paged]:
        """Carry a call out page by page, each when it is asked for."""
''',
    "async_client_methods.py": '''
"""Methods of the asyncio client, one for each call. Written by scripts/generate_client.py; do not edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Answer = TypeVar("Answer")
Paged = TypeVar("Paged", bound="Page[Any] | SearchAnswer")


class AsyncClientMethods(ABC):
    """The calls as methods to be awaited; a client says how one is carried out."""

    @abstractmethod
    async def run(self, call: Call[Answer]) -> Answer:
        """Carry a call out."""

    @abstractmethod
    def run_pages(self, call: Call[Paged]) -> AsyncIterator[Paged]:
        """Carry a call out page by page, each when it is asked for."""

    @abstractmethod
    async def _build(
        self, build: Callable[P, Call[Answer]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Call[Answer]:
        """Build a call, where that takes time on a thread."""
''',
}


@dataclass(frozen=True, slots=True)
class Function:
    """A function that builds a call: its arguments, the type of the answer and the docstring, as text."""

    arguments: ast.arguments
    answer: str
    docstring: str


class Module:
    """A module of such functions, and where the names in their annotations come from."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.functions: dict[str, Function] = {}
        self.origins: dict[str, str] = {}
        for node in ast.parse((ROOT / "cir" / f"{name}.py").read_text()).body:
            match node:
                case ast.ImportFrom(module=str(module)):
                    for alias in node.names:
                        self.origins[alias.asname or alias.name] = _imported(module, alias)
                case ast.ClassDef():
                    self.origins[node.name] = f"from cir.{name} import {node.name}"
                case ast.FunctionDef(returns=ast.Subscript(value=ast.Name(id="Call"), slice=answer)):
                    docstring = ast.get_docstring(node) or ""
                    self.functions[node.name] = Function(node.args, ast.unparse(answer), docstring)


def _imported(module: str, alias: ast.alias) -> str:
    name = f" as {alias.asname}" if alias.asname else ""
    return f"from {module} import {alias.name}{name}"


def generate() -> dict[str, str]:
    """Return both modules by file name."""
    modules = {name: Module(name) for name in dict.fromkeys(method[1] for method in METHODS)}
    return {
        file: _formatted(_module(head, modules, asynchronous=file.startswith("async")))
        for file, head in _HEAD.items()
    }


def _module(head: str, modules: dict[str, Module], *, asynchronous: bool) -> str:
    imports = {"from cir.requests import Call, Page", "from cir.models import SearchAnswer"}
    imports.add(f"from cir import {', '.join(sorted(modules))}")
    if not asynchronous:
        imports.add("from cir.requests import build_call")
    methods = []
    for name, source, function, *rest in METHODS:
        module = modules[source]
        kind, docstring = rest or ("answer", "")
        found = module.functions[function]
        methods.append(
            _method(name, f"{source}.{function}", found, kind, docstring, asynchronous=asynchronous)
        )
        annotations = [
            argument.annotation for argument in (*found.arguments.args, *found.arguments.kwonlyargs)
        ]
        for annotation in (*annotations, ast.parse(found.answer, mode="eval")):
            assert annotation is not None
            names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
            imports |= {module.origins[each] for each in names & module.origins.keys()}
    before, _, after = head.lstrip().partition("from typing import")
    line, _, after = after.partition("\n")
    return "\n".join([f"{before}from typing import{line}", *sorted(imports), after, *methods])


def _method(
    name: str, build: str, function: Function, kind: str, docstring: str, *, asynchronous: bool
) -> str:
    arguments = function.arguments
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg("self"), *arguments.args],
        kwonlyargs=arguments.kwonlyargs,
        kw_defaults=arguments.kw_defaults,
        defaults=arguments.defaults,
    )
    passed = [argument.arg for argument in arguments.args[1:]]
    passed += [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    given = ", ".join([build, *passed])
    call = f"await self._build({given})" if asynchronous else f"build_call({given})"
    entry = function.answer.removeprefix("Page[").removesuffix("]")
    await_, for_ = ("await ", "async for") if asynchronous else ("", "for")
    pages = "page in self.run_pages(call)"
    match kind:
        case "answer":
            answer, body = function.answer, [f"call = {call}", f"return {await_}self.run(call)"]
        case "pages" if asynchronous:
            answer = f"AsyncIterator[{function.answer}]"
            body = [f"call = {call}", f"async for {pages}:", "    yield page"]
        case "pages":
            answer, body = f"Iterator[{function.answer}]", [f"call = {call}", "return self.run_pages(call)"]
        case "entries" if asynchronous:
            answer = f"AsyncIterator[{entry}]"
            body = [f"call = {call}", f"async for {pages}:"]
            body += ["    for entry in page.entries:", "        yield entry"]
        case "entries":
            answer = f"Iterator[{entry}]"
            body = [f"call = {call}", f"return (entry for {pages} for entry in page.entries)"]
        case _:
            answer = f"list[{entry}]"
            body = [f"call = {call}", f"return [entry {for_} {pages} for entry in page.entries]"]
    text = docstring or function.docstring
    closing = "\n" if "\n" in text else ""
    lines = [f"async def {name}" if asynchronous else f"def {name}"]
    lines[0] += f"({ast.unparse(arguments)}) -> {answer}:"
    return (
        textwrap.indent(
            "\n".join([*lines, *_indented(f'"""{text}{closing}"""'), *_indented("\n".join(body))]), "    "
        )
        + "\n"
    )


def _indented(text: str) -> list[str]:
    return textwrap.indent(text, "    ").split("\n")


def _formatted(source: str) -> str:
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select", "I", "--fix", "--quiet", "-"], ["format", "--quiet", "-"]):
        # As of a file in the client's folder, which knows what is of its own.
        named = ["--stdin-filename", "cir/generated.py"]
        done = subprocess.run(
            [*ruff, *command, *named], input=source, capture_output=True, text=True, check=True, cwd=ROOT
        )
        source = done.stdout
    return source


def main(arguments: list[str]) -> int:
    """Entry point; exit code 1 when --check finds other methods than the calls have."""
    if arguments not in ([], ["--check"]):
        raise SystemExit(f"unknown arguments {arguments}; only --check is known")
    differing = []
    for name, text in generate().items():
        path = ROOT / "cir" / name
        if not path.is_file() or path.read_text() != text:
            differing.append(f"cir/{name}")
            if not arguments:
                path.write_text(text)
    if arguments and differing:
        print(f"stale: {', '.join(differing)}; run `make protos`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
