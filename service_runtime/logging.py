"""Structured logs on stderr: events with facts, never what users sent.

An event is a constant text of ours and its facts are numbers, names of settings, and codes. Errors are
reported by type and place (`error_report.py`), in both formats alike. What libraries log, warn of or let
escape goes through `capture_libraries`, by the same rule.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

# Where structlog finds rich it loads it, for a way to print errors that is not used here: 4 MB a process.
_HIDDEN = "rich" not in sys.modules
if _HIDDEN:
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog  # noqa: E402
from structlog.contextvars import bound_contextvars  # noqa: E402

if _HIDDEN:
    del sys.modules["rich"]

from service_runtime.error_report import current_error, report_error, short_path  # noqa: E402

__all__ = [
    "REQUEST_ID",
    "bound_contextvars",
    "capture_libraries",
    "configure_logging",
    "get_logger",
    "log_loop_error",
    "request_id_of",
    "warn_of_unknown_variables",
]

#: Name of the header or metadata with which a request id travels.
REQUEST_ID = "x-request-id"
# What a caller may choose as an id, which is logged.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_LIBRARIES = "library"
_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


def configure_logging(level: str, style: str) -> None:
    """Set up structlog for the process. `style` is "json" or "console"."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _report_errors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_stderr_logger,
        cache_logger_on_first_use=False,
    )


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the process's logger, which writes to stderr where the process has set up none."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


def request_id_of(given: str | bytes) -> str:
    """Return the request id that a caller gives, where it may be logged, else a new one."""
    return given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def capture_libraries(level: str) -> None:
    """Have everything else of this process that writes of errors write by the same rule.

    That is: the loggers of libraries, warnings, and errors that end a thread, a task or the process.
    `level` is the least severe level of libraries that is logged; below warnings none are.
    """
    # A record that cannot be handled would be printed with its values.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.addHandler(_LibraryHandler())
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    warnings.showwarning = _log_warning  # type: ignore[assignment]  # its unused arguments are left out
    sys.excepthook = lambda _kind, error, _trace: _log_escaped("the process ended by an error", error)
    threading.excepthook = lambda args: _log_escaped("a thread ended by an error", args.exc_value)
    sys.unraisablehook = lambda args: _log_escaped("an error in clean-up", args.exc_value)


def log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio reports of tasks and callbacks; the event loop's exception handler.

    Its own texts quote the task, its arguments and its error.
    """
    task = context.get("task") or context.get("future")
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    name = getattr(coroutine, "__qualname__", "")
    get_logger().error("an error that nobody awaited", task=name, exc_info=context.get("exception"))


class _LibraryHandler(logging.Handler):
    """Logs records of libraries: where they come from, and the text that their values would stand in.

    A text without values may have been put together before, so it is left out.
    """

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        text = record.msg if record.args and isinstance(record.msg, str) else ""
        facts = {"text": text.strip()} if text.strip() else {}
        level = next(level for level in _LEVELS if record.levelno >= level or level == logging.DEBUG)
        get_logger().log(
            level,
            _LIBRARIES,
            logger=record.name,
            at=f"{short_path(record.pathname)}:{record.lineno}",
            exc_info=error,
            **facts,
        )


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    get_logger().warning(_LIBRARIES, warning=category.__name__, at=f"{short_path(filename)}:{lineno}")


def _log_escaped(event: str, error: BaseException | None) -> None:
    if not isinstance(error, (SystemExit, KeyboardInterrupt)):
        get_logger().critical(event, exc_info=error)


def _report_errors(
    _logger: structlog.types.WrappedLogger, _name: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Replace an error by its report, before a renderer would print it in its own way."""
    event.pop("stack_info", None)
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1]
    error = given if isinstance(given, BaseException) else current_error() if given else None
    if error is not None:
        event["exception"] = report_error(error)
    return event


def _stderr_logger(*_: object) -> structlog.PrintLogger:
    # Looked up for each line: the stream may have been replaced since the log was set up.
    return structlog.PrintLogger(sys.stderr)


# Left alone, structlog prints to standard output, where a command's result would be mixed with log lines.
if not structlog.is_configured():
    configure_logging("info", "console")


def warn_of_unknown_variables(unknown: Mapping[str, str]) -> None:
    """Log each variable of the environment that was meant as a setting, with the one spelled alike."""
    for name, near in unknown.items():
        facts = {"did_you_mean": near} if near else {}
        get_logger().warning("a variable of the environment is no setting", variable=name, **facts)
