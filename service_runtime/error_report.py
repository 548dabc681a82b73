"""Reports of unexpected errors for the log: types and places in the code, never what an error says.

The text of an error quotes what it failed on (`could not convert string to float: '...'`), and so do its
arguments, its notes and the local variables of its frames. All of that may have come from a user. What
is left finds the fault: the type, the frames as file, line and function, the same of its causes, and the
codes of operating system, SQLite and gRPC, which are from closed lists.
"""

from __future__ import annotations

import errno
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import grpc

# The innermost frames say most, the outermost who called.
OUTER_FRAMES = 8
INNER_FRAMES = 24
MAX_ERRORS = 8

_ROOTS = sorted(
    {
        str(Path(__file__).resolve().parents[1]),
        *(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")),
    },
    key=len,
    reverse=True,
)


def report_error(error: BaseException) -> str:
    """Return the type and the places of an error and of what led to it, on several lines.

    Takes time and space that do not depend on what the error, its frames or its arguments hold.
    """
    lines: list[str] = []
    for relation, one in _related(error):
        lines.append(f"{relation}{name_error(one)}")
        lines.extend(f"  {place}" for place in _places(one.__traceback__))
    return "\n".join(lines)


def forget_frames(error: BaseException) -> None:
    """Let go of what the frames of an error, and of those it came from, hold."""
    for _, one in _related(error):
        one.__traceback__ = None


def name_error(error: BaseException) -> str:
    """Return the type of an error, with its code where it has one: "OSError ENOSPC"."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    code = _code(error)
    return f"{name} {code}" if code else name


def _code(error: BaseException) -> str:
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno, "") if isinstance(error.errno, int) else ""
    if isinstance(error, grpc.RpcError):
        code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    else:
        # Of this project's own errors, and of SQLite's.
        code = getattr(error, "code", None)
        if not isinstance(code, grpc.StatusCode):
            name = getattr(error, "sqlite_errorname", "")
            return name if isinstance(name, str) and name.startswith("SQLITE_") else ""
    return code.name if isinstance(code, grpc.StatusCode) else ""


def _related(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Yield the error and those it came from or holds, each once, with their relation to it."""
    waiting: list[tuple[str, BaseException]] = [("", error)]
    seen: set[int] = set()
    while waiting and len(seen) < MAX_ERRORS:
        relation, one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield relation, one
        if one.__cause__ is not None:
            waiting.append(("caused by ", one.__cause__))
        elif one.__context__ is not None and not one.__suppress_context__:
            waiting.append(("while handling ", one.__context__))
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(("holding ", member) for member in one.exceptions[:MAX_ERRORS])


def _places(traceback: TracebackType | None) -> list[str]:
    """Return "file:line function" of the frames, outermost first, those in the middle counted alone."""
    steps: list[TracebackType] = []
    while traceback is not None:
        steps.append(traceback)
        traceback = traceback.tb_next
    left_out = len(steps) - OUTER_FRAMES - INNER_FRAMES
    if left_out <= 0:
        return [_place(step) for step in steps]
    return [
        *(_place(step) for step in steps[:OUTER_FRAMES]),
        f"... {left_out} more",
        *(_place(step) for step in steps[-INNER_FRAMES:]),
    ]


def _place(step: TracebackType) -> str:
    code = step.tb_frame.f_code
    return f"{short_path(code.co_filename)}:{step.tb_lineno} {code.co_qualname}"


def short_path(path: str) -> str:
    """Return a source file's path from where its package is installed."""
    for root in _ROOTS:
        if path.startswith(root + "/"):
            return path[len(root) + 1 :]
    return path if path.startswith("<") else Path(path).name


def current_error() -> BaseException | None:
    """Return the exception that is being handled."""
    return sys.exc_info()[1]
