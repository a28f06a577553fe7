"""Output of the commands: lines, tables, JSON and YAML; colours on a terminal only.

Tables look like kubectl's: columns as wide as their cells, without frames. Rich's own tables fold and frame,
and take long for 10,000 rows.

Every text passes `escape_controls` here, except logs, because other users wrote a part of it.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import yaml
from rich.color import ColorSystem
from rich.console import Console as RichConsole
from rich.style import Style
from rich.text import Text

from phjob_core.api import Phase
from phjob_core.text import escape_controls

GAP = "   "


class Format(StrEnum):
    """Values of `--output`."""

    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_structured(self) -> bool:
        """Return whether programs read the output."""
        return self is not Format.WIDE


STYLES: Mapping[str, str] = {
    Phase.PENDING: "yellow",
    Phase.PREPARING: "cyan",
    Phase.RUNNING: "blue",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.CANCELLED: "bright_black",
}
"""Colour of a cell with one of these texts."""


class Console:
    """Standard output and standard error of a command."""

    def __init__(self) -> None:
        self.rich = RichConsole()
        self._errors = RichConsole(stderr=True)

    @property
    def is_terminal(self) -> bool:
        """Return whether standard output is a terminal."""
        return self.rich.is_terminal

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line to standard output."""
        sys.stdout.write(self._styled(escape_controls(text), style) + "\n")

    def write(self, piece: bytes) -> None:
        """Write a piece of a log to standard output, unchanged and at once."""
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        """Write a line to standard error, so that it does not get into a pipe."""
        sys.stdout.flush()
        sys.stderr.write(escape_controls(text) + "\n")

    def pairs(self, pairs: Sequence[tuple[str, str | Sequence[str]]]) -> None:
        """Write each label with its value; several values of a label, and several lines, get one line each.

        Empty values are left out. A further line is indented, so that it cannot pass for another label.
        """
        width = max(len(label) for label, _ in pairs) + 1
        for label, value in pairs:
            texts = filter(None, [value] if isinstance(value, str) else value)
            for index, line in enumerate(line for text in texts for line in text.split("\n")):
                head = self._styled(("" if index else f"{label}:").ljust(width), "bold")
                sys.stdout.write(f"{head}{GAP}{escape_controls(line)}".rstrip() + "\n")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table."""
        sys.stdout.write("".join(f"{line}\n" for line in self.table_lines(headers, rows)))

    def table_lines(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        """Return the lines of a table."""
        rows = [[escape_controls(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
        lines = [self._styled(_format_row(headers, widths), "bold")]
        for row in rows:
            styled = self._has_colours and [self._styled(cell, STYLES.get(cell, "")) for cell in row]
            lines.append(_format_row(row, widths, styled or row))
        return lines

    def data(self, value: Any, form: Format) -> None:
        """Write a value as JSON or YAML."""
        plain = _to_plain(value)
        if form is Format.JSON:
            dumped = json.dumps(plain, indent=2, ensure_ascii=False)
        else:
            dumped = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
        # Between quotation marks, both formats read these escapes as the characters.
        sys.stdout.write(escape_controls(dumped, keep_layout=True).rstrip("\n") + "\n")

    @contextmanager
    def progress(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show a spinner with the text; yields a function that replaces the text.

        Nothing is shown if standard error is no terminal.
        """
        if not self._errors.is_terminal:
            yield lambda _: None
            return
        # Not a plain string: Rich would take a part in brackets for its own markup.
        with self._errors.status(Text(escape_controls(text))) as status:
            yield lambda text: status.update(Text(escape_controls(text)))

    @property
    def _has_colours(self) -> bool:
        return self.rich.color_system is not None and not self.rich.no_color

    def _styled(self, text: str, style: str) -> str:
        if not style or not text or not self._has_colours:
            return text
        return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


class _Dumper(yaml.SafeDumper):
    """Writes YAML, with each string that contains control characters in quotation marks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if escape_controls(text, keep_layout=True) != text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def bar(used: int, limit: int, width: int = 12) -> str:
    """Return `████░░░░`, the used share of a limit."""
    full = width if used >= limit else used * width // limit
    return "█" * full + "░" * (width - full)


def _format_row(cells: Sequence[str], widths: Sequence[int], shown: Sequence[str] | None = None) -> str:
    """Return a line of a table. `shown` are the cells with colour codes."""
    padded = [
        text + " " * (width - len(cell))
        for cell, text, width in zip(cells, shown or cells, widths, strict=True)
    ]
    return GAP.join(padded).rstrip()


def _to_plain(value: Any) -> Any:
    """Return the value with types that JSON has; empty fields are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return _to_plain(asdict(value))
    if isinstance(value, Mapping):
        present = {key: item for key, item in value.items() if item not in (None, "")}
        return {_to_camel_case(str(key)): _to_plain(item) for key, item in present.items()}
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def _to_camel_case(key: str) -> str:
    """Return `nextStep` for `next_step`. Names of resources stay as they are."""
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)
