"""Structured logs on stderr: events with facts, never payloads or keys."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(level: str, style: str) -> None:
    """Set up structlog for the process. `style` is "json" or "console"."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if style == "json" else _unchanged,
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


def _stderr_logger(*_: object) -> structlog.PrintLogger:
    # Looked up for each line: the stream may have been replaced since the log was set up.
    return structlog.PrintLogger(sys.stderr)


def _unchanged(
    _logger: structlog.types.WrappedLogger, _name: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    return event


# Left alone, structlog prints to standard output, where a command's result would be mixed with log lines.
if not structlog.is_configured():
    configure_logging("info", "console")
