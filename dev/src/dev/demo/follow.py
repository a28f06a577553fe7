"""A kubectl command that goes on in the background, such as a watch, and its output as it comes.

What the events of a watch mean is for `journal` and `pods`.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dev.component import PASSED_ON
from dev.errors import DevError
from dev.process import end, spawn

GRACE_SECONDS = 2.0


class Follow:
    """One running command; its output is a file, read as it grows."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], output: Path) -> None:
        """Start it."""
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._process = spawn(argv, {**passed_on, **env}, output)
        self._output = output
        self._read = 0
        self._rest = b""

    def lines(self) -> list[str]:
        """The complete lines that have come since the last call; DevError once the command has ended."""
        alive = self._process.alive()  # Asked first: what it printed before it ended is still read.
        with self._output.open("rb") as file:
            file.seek(self._read)
            news = file.read()
        self._read += len(news)
        *whole, self._rest = (self._rest + news).split(b"\n")
        if not whole and not alive:
            raise DevError(f"a watch of the API server has ended; its output is in {self._output}")
        return [line.decode() for line in whole]

    def end(self) -> None:
        """End it."""
        end([self._process], GRACE_SECONDS)


def events(watch: Follow) -> Iterator[dict[str, Any]]:
    """What has come from a raw watch: objects that were added, modified or deleted."""
    for line in watch.lines():
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise DevError(f"a watch of the API server says: {line}") from error
        if event["type"] not in {"ADDED", "MODIFIED", "DELETED"}:
            raise DevError(f"a watch of the API server says: {line}")
        yield event
