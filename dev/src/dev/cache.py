"""What is built or fetched once per machine, and the locks that make it once.

Leaves to others what goes in: `golang`, `tools`, `debian` and `ports` each use a name of their own.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.progress import working


def cache_dir() -> Path:
    """`$PHJOB_CACHE`, else `$XDG_CACHE_HOME/phjob`, else `~/.cache/phjob`; made if missing."""
    if given := os.environ.get("PHJOB_CACHE"):
        cache = Path(given)
    elif base := os.environ.get("XDG_CACHE_HOME"):
        cache = Path(base) / "phjob"
    else:
        cache = Path.home() / ".cache" / "phjob"
    cache.mkdir(parents=True, exist_ok=True)
    return cache.absolute()


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock of this name; if another process has it, say that it is `busy`, and wait.

    The kernel frees the lock when its holder ends in any way, so none can be left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with working(f"waiting for another run that {busy}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
