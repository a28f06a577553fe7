"""What the reader sees: headings, kubectl commands with their output, tables, checks.

On a terminal with colours and frames, elsewhere as plain text. It goes to stdout; how far slow
things are is `dev.progress`'s, on stderr.
"""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 120


class Screen:
    """Prints each kind of thing in its own way; nothing is ever parsed for markup."""

    def __init__(self) -> None:
        """On stdout."""
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)
        self._box = box.SIMPLE_HEAD if console.is_terminal else box.ASCII

    def heading(self, title: str) -> None:
        """The beginning of something new."""
        self._print("")
        self._print(f"== {title} ==", "bold")

    def say(self, text: str) -> None:
        """A sentence for the reader."""
        self._print(text)

    def command(self, line: str) -> None:
        """A command, as one would type it."""
        self._print(f"$ {line}", "bold cyan")

    def output(self, text: str) -> None:
        """What a command printed; empty: nothing."""
        if text:
            self._print(text.rstrip("\n"), "dim")

    def verdict(self, what: str, *, ok: bool) -> None:
        """The outcome of one check."""
        mark = Text("    ok  ", "bold green") if ok else Text("NOT ok  ", "bold red")
        self._console.print(mark + Text(what), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under these columns."""
        table = Table(*columns, box=self._box, header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)
