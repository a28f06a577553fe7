"""The format of a log line, of our own code and of libraries."""

import json
import os
import subprocess
import sys

PROGRAM = """
import logging, structlog
from phjob_runtime import log

log.configure("janitor", "{level}")
structlog.get_logger().info("job_reclaimed", job="train", uid="u-1")
logging.getLogger("aio_pika").warning("connection lost")
logging.getLogger("aio_pika").info("not shown")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("worker_failed")
"""


def lines(level: str) -> list[dict[str, str]]:
    """Return what a process with this level logs. Logging can be configured only once in a process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_json_with_event_time_level_service_and_keys() -> None:
    """One line for each event, on standard error."""
    first = lines("INFO")[0]
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "job_reclaimed",
        "level": "info",
        "service": "janitor",
        "job": "train",
        "uid": "u-1",
    }


def test_an_exception_is_in_its_line() -> None:
    """A traceback on lines of its own would break every line-based tool."""
    last = lines("INFO")[-1]
    assert last["event"] == "worker_failed"
    assert "ZeroDivisionError: division by zero" in last["exception"]


def test_libraries_log_their_warnings_in_the_same_format() -> None:
    """But not their infos, of which there are many."""
    library = [line for line in lines("INFO") if line.get("logger") == "aio_pika"]
    assert [(line["event"], line["level"], line["service"]) for line in library] == [
        ("connection lost", "warning", "janitor")
    ]


def test_a_traceback_on_a_terminal_shows_no_values() -> None:
    """A variable may contain a URL with a password."""
    primary, secondary = os.openpty()
    try:
        program = PROGRAM.format(level="ERROR").replace("1 / 0", "url = 'amqp://u:PASS' + 'WORD@b'; 1 / 0")
        subprocess.run([sys.executable, "-c", program], stderr=secondary, check=True)
        os.close(secondary)
        output = _read_all(primary)
    finally:
        os.close(primary)
    assert "ZeroDivisionError" in output
    assert "PASSWORD" not in output


def _read_all(terminal: int) -> str:
    """Return everything that was written to a terminal, whose other end is closed."""
    output = b""
    try:
        while part := os.read(terminal, 65536):
            output += part
    except OSError:  # Linux reports the end of a terminal as an error.
        pass
    return output.decode()


def test_events_below_the_level_are_not_logged() -> None:
    """LOG_LEVEL of the environment (spec.md, S7)."""
    assert [line["event"] for line in lines("ERROR")] == ["connection lost", "worker_failed"]
