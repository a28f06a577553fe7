"""What is being done and for how long: a live line on a terminal, now and then a line elsewhere.

Everything goes to stderr; stdout belongs to what a shell evaluates.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)

LINE_EVERY_SECONDS = 15.0


def say(line: str) -> None:
    """One line for the person who waits; never parsed for markup."""
    console.print(Text(line))


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show that `what` goes on; yields a function that says how far it is."""
    started = time.monotonic()
    detail = ""
    done = threading.Event()
    live = console.is_terminal

    def line() -> str:
        return f"{what} ... {spell(time.monotonic() - started)}{detail and f', {detail}'}"

    def tell(news: str) -> None:
        nonlocal detail
        detail = news

    def show() -> None:
        if not live:
            say(f"{what} ...")
            while not done.wait(LINE_EVERY_SECONDS):
                say(line())
            return
        with console.status(Text(line())) as status:
            while not done.wait(0.5):
                status.update(Text(line()))

    shower = threading.Thread(target=show, name="progress", daemon=True)
    shower.start()
    try:
        yield tell
    finally:
        done.set()
        shower.join()
    say(f"{what}: done in {spell(time.monotonic() - started)}")


def spell(seconds: float) -> str:
    """`7 s`, `3 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
