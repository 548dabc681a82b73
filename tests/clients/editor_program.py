"""The client as editors and notebooks show it, by jedi; run by a test where that is installed."""

from __future__ import annotations

import sys

import jedi

ROOT = sys.argv[1]
PROGRAM = "import cir\nclient = cir.Client('x')\nclient.{method}("
for method, argument, member in (
    ("search", "image", "results"),
    ("upload", "resume", "written"),
    ("item", "item_id", "payload"),
):
    source = PROGRAM.format(method=method)
    project = jedi.Project(ROOT)
    [signature] = jedi.Script(source, project=project).get_signatures()
    assert argument in [parameter.name for parameter in signature.params], (method, signature)
    assert len(signature.docstring(raw=True)) > 8, method
    names = [found.name for found in jedi.Script(f"{source}'x').", project=project).complete()]
    assert member in names, (method, names)
print("editors jedi", jedi.__version__)
