"""A kubectl command in the background, such as a watch, and its output as it arrives.

`job_journal` and `pod_journal` interpret the events of a watch.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dev.component import INHERITED_VARIABLES
from dev.errors import DevError
from dev.process import spawn, terminate

GRACE_SECONDS = 2.0


class BackgroundCommand:
    """A running command. Its output goes to a file, which is read as it grows."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], output: Path) -> None:
        """Start the command."""
        inherited = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        self._process = spawn(argv, {**inherited, **env}, output)
        self._output = output
        self._bytes_read = 0
        self._incomplete_line = b""

    def new_lines(self) -> list[str]:
        """Return the complete lines since the last call.

        Raises:
            DevError: there are none, and the command has ended.

        """
        # Without this order, the last output of a command that ends in between would be lost.
        is_alive = self._process.is_alive()
        with self._output.open("rb") as file:
            file.seek(self._bytes_read)
            new = file.read()
        self._bytes_read += len(new)
        *lines, self._incomplete_line = (self._incomplete_line + new).split(b"\n")
        if not lines and not is_alive:
            raise DevError(f"a watch of the API server has ended; its output is in {self._output}")
        return [line.decode() for line in lines]

    def terminate(self) -> None:
        """End the command."""
        terminate([self._process], GRACE_SECONDS)


def watch_events(watch: BackgroundCommand) -> Iterator[dict[str, Any]]:
    """Yield the new events of a watch: objects that were added, modified or deleted.

    Raises:
        DevError: a line is no such event, or the watch has ended.

    """
    for line in watch.new_lines():
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise DevError(f"unexpected output of a watch of the API server: {line}") from error
        if event["type"] not in {"ADDED", "MODIFIED", "DELETED"}:
            raise DevError(f"unexpected output of a watch of the API server: {line}")
        yield event
