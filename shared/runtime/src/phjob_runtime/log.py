"""Logging: an event name with keys and values, as JSON, or in colours on a terminal."""

import logging
import sys
from typing import Any

import structlog


def configure(service: str, level: str) -> None:
    """Configure logging for the process. `level` is one of Python's level names."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any
    if sys.stderr.isatty():
        # Without this, a traceback would show the values of all variables, such as a URL with a password.
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        processors.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries log with the standard library. Their warnings and errors get the same format.
    handler = logging.StreamHandler(sys.stderr)
    foreign = [structlog.stdlib.add_logger_name, *processors, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=foreign))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
