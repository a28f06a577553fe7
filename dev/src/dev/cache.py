"""The cache: files that are built or fetched once per machine, and locks for that.

`golang`, `tools`, `docker_images`, `debian` and `ports` use it, each with names of its own.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.progress import show_progress


def cache_dir() -> Path:
    """Return the folder of the cache, and create it if it is missing.

    It is `$PHJOB_CACHE`, otherwise `$XDG_CACHE_HOME/phjob`, otherwise `~/.cache/phjob`.
    """
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
    """Hold the lock of this file.

    While another process holds it, wait, and show "waiting for another run that" with `busy`. The kernel
    releases the lock when its holder ends, so no lock can be left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with show_progress(f"waiting for another run that {busy}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
