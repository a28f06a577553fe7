"""The ports of a stack. Each is chosen once and kept, so that a component has it again after a restart.

The ports are below the range from which the kernel assigns ports. A register in the cache prevents two
stacks that start at the same time from choosing the same port.
"""

import json
import random
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dev.cache import cache_dir, locked

RANGE = range(20000, 32000)


class Ports:
    """The ports of one stack by name, as they are stored in a file that people may read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __getitem__(self, name: str) -> int:
        """Return the port of this name, and choose one if it has none."""
        if (port := self._known().get(name)) is not None:
            return port
        register = cache_dir() / "ports.json"
        with locked(register.with_suffix(".lock"), busy="chooses ports"):
            owners: dict[str, str] = _read(register)
            taken = {
                port: owner for port, owner in owners.items() if int(port) in _read(Path(owner)).values()
            }
            port = next(
                port for port in random.sample(RANGE, len(RANGE)) if str(port) not in taken and _is_free(port)
            )
            _write(self.file, {**self._known(), name: port})
            _write(register, {**taken, str(port): str(self.file)})
        return port

    def _known(self) -> dict[str, int]:
        known: dict[str, int] = _read(self.file)
        return known


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}


def _write(file: Path, content: Mapping[str, int | str]) -> None:
    """Write the file, so that another process reads either the old or the new content."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2))
    new.replace(file)
