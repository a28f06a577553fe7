"""How answers reach a person or a script: columns, pairs, JSON, YAML; colours on a terminal only.

Columns are kubectl's, as wide as what is in them, and cost nothing for ten thousand rows; Rich's own tables
fold and frame. What is said is the commands' part.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import yaml
from rich.color import ColorSystem
from rich.console import Console
from rich.status import Status
from rich.style import Style

from shared.phjob import Phase

GAP = "   "


class Format(StrEnum):
    """What `--output` may be."""

    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def for_machines(self) -> bool:
        """Whether it is for programs to read."""
        return self is not Format.WIDE


STYLES: Mapping[str, str] = {
    Phase.PENDING: "yellow",
    Phase.PREPARING: "cyan",
    Phase.RUNNING: "blue",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.CANCELLED: "bright_black",
}
"""The colour of a cell that is one of these words."""


class Screen:
    """Standard output and standard error."""

    def __init__(self) -> None:
        self.console = Console()
        self._errors = Console(stderr=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads along."""
        return self.console.is_terminal

    def line(self, text: str = "", style: str = "") -> None:
        """One line."""
        sys.stdout.write(self._styled(text, style) + "\n")

    def raw(self, piece: bytes) -> None:
        """A piece of a log, as it is, at once."""
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        """One line beside the answer: it does not get into a pipe."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")

    def pairs(self, pairs: Sequence[tuple[str, str | Sequence[str]]]) -> None:
        """A label and its value in each line; of several values, one line each. Empty ones are left out."""
        width = max(len(label) for label, _ in pairs) + 1
        for label, value in pairs:
            for number, text in enumerate([value] if isinstance(value, str) else value):
                if text:
                    head = f"{label}:" if number == 0 else ""
                    self.line(f"{self._styled(head.ljust(width), 'bold')}{GAP}{text}")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns under headers."""
        sys.stdout.write("".join(f"{line}\n" for line in self.columns(headers, rows)))

    def columns(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        """The lines of a table."""
        widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
        lines = [self._styled(_row(headers, widths), "bold")]
        for row in rows:
            styled = self._has_colours and [self._styled(cell, _style_of(cell)) for cell in row]
            lines.append(_row(row, widths, styled or row))
        return lines

    def data(self, value: Any, form: Format) -> None:
        """The value for a program."""
        plain = _plain(value)
        if form is Format.JSON:
            sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000))

    @contextmanager
    def progress(self, text: str) -> Iterator[Status | None]:
        """Show that something is going on, while it does; on a terminal only."""
        if not self._errors.is_terminal:
            yield None
            return
        with self._errors.status(text) as status:
            yield status

    @property
    def _has_colours(self) -> bool:
        return self.console.color_system is not None and not self.console.no_color

    def _styled(self, text: str, style: str) -> str:
        if not style or not text or not self._has_colours:
            return text
        return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def _row(cells: Sequence[str], widths: Sequence[int], shown: Sequence[str] | None = None) -> str:
    """The cells in their columns; `shown` are the same with colours, which have no width."""
    padded = [
        text + " " * (width - len(cell))
        for cell, text, width in zip(cells, shown or cells, widths, strict=True)
    ]
    return GAP.join(padded).rstrip()


def _style_of(cell: str) -> str:
    return STYLES.get(cell, "")


def bar(used: int, limit: int, width: int = 12) -> str:
    """`████░░░░`: how much of a limit is used."""
    full = width if used >= limit else used * width // limit
    return "█" * full + "░" * (width - full)


def _plain(value: Any) -> Any:
    """What JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {_camel(str(key)): _plain(item) for key, item in value.items() if item not in (None, "")}
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def _camel(key: str) -> str:
    """`next_step` as `nextStep`, as Kubernetes writes its fields; a resource's name stays."""
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)
