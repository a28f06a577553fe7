"""The progress of slow work: a line that is updated on a terminal, and a line every 15 s elsewhere.

All of it goes to stderr, because a shell evaluates stdout.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)

LINE_EVERY_SECONDS = 15.0


def print_line(line: str) -> None:
    """Print a line to stderr, without any markup."""
    console.print(Text(line))


@contextmanager
def show_progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show `what` and its duration during the context.

    Yields a function that adds a detail.
    """
    started = time.monotonic()
    detail = ""
    done = threading.Event()
    live = console.is_terminal

    def line() -> str:
        return f"{what} ... {format_duration(time.monotonic() - started)}{detail and f', {detail}'}"

    def set_detail(text: str) -> None:
        nonlocal detail
        detail = text

    def show() -> None:
        if not live:
            print_line(f"{what} ...")
            while not done.wait(LINE_EVERY_SECONDS):
                print_line(line())
            return
        with console.status(Text(line())) as status:
            while not done.wait(0.5):
                status.update(Text(line()))

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield set_detail
    finally:
        done.set()
        thread.join()
    print_line(f"{what}: done in {format_duration(time.monotonic() - started)}")


def format_duration(seconds: float) -> str:
    """Return a duration as text: `7 s`, `3 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
