"""The command of a job as a script: its text, and the program that runs it (spec.md, P16). Pure.

A command comes from a YAML file, from JSON or from a file of a script, and may be what an editor on Windows
has saved.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_BYTE_ORDER_MARK = "\ufeff"
_SHEBANG = re.compile(r"#![ \t]*(?P<interpreter>\S+)[ \t]*(?P<argument>.*?)[ \t\r]*(?:\n|$)")
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})
"""Shells that run a script which they get as an argument, as every POSIX shell does."""
_CONVERTED = "the command had the line ends of Windows (CR LF); they are LF now"


@dataclass(frozen=True, slots=True)
class Script:
    """A command, ready to run."""

    text: str
    """The text with the line ends that it runs with, and without a byte order mark."""
    interpreter: str = ""
    """The program that the first line names by `#!`; empty if it names none."""
    argument: str = ""
    """The rest of that line, which Linux passes to the interpreter as one argument; may be empty."""
    notices: tuple[str, ...] = ()
    """Sentences for the job's log."""

    @property
    def shell(self) -> str:
        """The shell that the first line names without an option; empty if it names none."""
        name = self.interpreter
        if PurePosixPath(name).name == "env" and self.argument:
            name = self.argument
        elif self.argument:
            return ""
        return name if PurePosixPath(name).name in _SHELLS else ""


def read_script(command: str) -> Script:
    """Return the script of a command.

    - A byte order mark at the start is dropped.
    - If every line ends in CR LF, each becomes LF. If only some do, the text is kept, because a heredoc may
      need it.
    - The first line may name an interpreter, as in a file that Linux executes.
    """
    text, notices = _unix_lines(command.removeprefix(_BYTE_ORDER_MARK))
    if found := _SHEBANG.match(text):
        return Script(text, found["interpreter"], found["argument"], notices)
    return Script(text, notices=notices)


def _unix_lines(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text with Unix line ends, if it is a Windows file, and notices about line ends."""
    *lines, last = text.split("\n")
    ended = [*lines, last] if last.endswith("\r") else lines
    windows = [line.endswith("\r") for line in ended]
    if not any(windows):
        return text, ()
    if all(windows):
        unix = "\n".join([*(line[:-1] for line in lines), last.removesuffix("\r")])
        return unix, (_CONVERTED,)
    first = windows.index(True) + 1
    notice = (
        f"line {first} of the command ends in CR LF, as on Windows, but other lines do not: a shell takes "
        "the CR as a character of the line"
    )
    return text, (notice,)
