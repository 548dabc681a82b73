"""The page of the Python client: its public names with signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import cir
from cir import public

_INTRODUCTION = """# Python client

Every public name of `cir`, from its docstrings. `cir.AsyncClient` has the methods of `cir.Client`, as
coroutines. How to install and use it: [its README](cir.md).
"""


def python_page() -> str:
    """Return the page as Markdown."""
    parts = [_INTRODUCTION]
    named = {name: getattr(cir, name) for name in sorted(public.__all__)}
    order = sorted(named, key=lambda name: (name != "Client", _rank(named[name]), name))
    for name in order:
        parts += _entry(name, named[name])
    return "\n".join(parts) + "\n"


def _rank(thing: Any) -> int:
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return 2
    return 0 if inspect.isfunction(thing) else 1


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield f"## {name} {{#{name}}}\n"
    if not callable(thing):
        return
    bare = inspect.isclass(thing) and issubclass(thing, Exception)
    if not bare:
        yield _signature(name, thing)
    yield docstring(thing)
    if inspect.isclass(thing) and name != "AsyncClient":
        for method_name, method in sorted(_methods(thing)):
            yield f"### {name}.{method_name} {{#{name}.{method_name}}}\n"
            yield _signature(method_name, method)
            yield docstring(method)


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods that a class has from modules of the client, with a docstring."""
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        method = getattr(method, "__func__", method)
        if name.startswith("_") or not inspect.isfunction(method) or not method.__doc__:
            continue
        if method.__module__.startswith("cir."):
            yield name, method


def _signature(name: str, thing: Any) -> str:
    found = inspect.signature(thing)
    parameters = [each.replace(annotation=_Bare(each)) for each in found.parameters.values()]
    text = f"{name}{found.replace(parameters=parameters, return_annotation=_Bare(found))}"
    if len(text) > 100:
        head, _, rest = text.partition("(")
        arguments, _, result = rest.rpartition(")")
        split = re.split(r", (?=[\w*]+(?::|$|,| =)|\*)", arguments)
        text = f"{head}(\n    " + ",\n    ".join(split) + f"\n){result}"
    return f"```python\n{text}\n```\n"


class _Bare:
    """The annotation of a parameter, or of what is returned, without the quotes of a text."""

    def __new__(cls, of: inspect.Parameter | inspect.Signature) -> Any:
        annotation = of.annotation if isinstance(of, inspect.Parameter) else of.return_annotation
        if not isinstance(annotation, str):
            return annotation
        bare = super().__new__(cls)
        bare.text = annotation
        return bare

    text: str

    def __repr__(self) -> str:
        return self.text


def docstring(thing: Any) -> str:
    """Return a docstring as Markdown; its blocks (`Raises:`) become lists."""
    lines: list[str] = []
    block = False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if re.fullmatch(r"(Raises|Args|Returns|Yields):", line):
            block = True
            lines += [f"**{line[:-1]}**", ""]
        elif block and re.match(r"    \S", line):
            lines.append(re.sub(r"^    ([\w., *]+?): ", r"- `\1`: ", line))
        elif block and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        else:
            block = block and not line
            lines.append(line.replace("<", "&lt;") if not line.startswith("    ") else line)
    return "\n".join(lines) + "\n"
