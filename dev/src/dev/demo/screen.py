"""The output of the demo: headings, kubectl commands with their output, tables and check results.

On a terminal it has colours and frames; elsewhere it is plain text. It goes to stdout, and the progress of
slow work to stderr (`dev.progress`).
"""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH_CHARS = 120


class Screen:
    """The standard output, with a format for each kind of content. No text is parsed for markup."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH_CHARS)
        self._box = box.SIMPLE_HEAD if console.is_terminal else box.ASCII

    def heading(self, title: str) -> None:
        """Print the heading of a step."""
        self._print("")
        self._print(f"== {title} ==", "bold")

    def paragraph(self, text: str) -> None:
        """Print sentences for the reader."""
        self._print(text)

    def command(self, line: str) -> None:
        """Print a command as a user would type it."""
        self._print(f"$ {line}", "bold cyan")

    def output(self, text: str) -> None:
        """Print the output of a command; nothing if it is empty."""
        if text:
            self._print(text.rstrip("\n"), "dim")

    def check_result(self, claim: str, *, ok: bool) -> None:
        """Print the result of a check."""
        mark = Text("    ok  ", "bold green") if ok else Text("NOT ok  ", "bold red")
        self._console.print(mark + Text(claim), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table with these columns and rows."""
        table = Table(*columns, box=self._box, header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)
