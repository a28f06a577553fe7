"""The folders, files, ports and secrets of one stack on this machine.

Most of them are in STATE. The real node needs short paths without a space, so its folders are in `/var/lib`
and `/run`, under the stack's id.
"""

import hashlib
import json
import secrets
import shutil
from pathlib import Path

from dev.ports import Ports


class StackPaths:
    """The paths, ports and secrets of one STATE. The constructor creates nothing."""

    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self.config = self.state / "config"
        self.data = self.state / "data"
        self.kubeconfig = self.state / "kubeconfig"
        self.options = self.state / "options.json"
        self.run = self.state / "run"
        self.ports = Ports(self.state / "ports.json")
        self.id = hashlib.sha256(str(self.state).encode()).hexdigest()[:8]
        self.network = f"phjob-{self.id}"
        self.node_data = Path("/var/lib/phjob") / self.id
        self.node_run = Path("/run/phjob") / self.id

    def make(self) -> None:
        """Create the folders that every stack has."""
        for folder in (self.config, self.data, self.run):
            folder.mkdir(parents=True, exist_ok=True)
        self.config.chmod(0o700)

    def clear(self) -> None:
        """Delete everything except the logs, and the lock, which the caller holds."""
        for folder in (self.config, self.data, self.run):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.kubeconfig, self.options, self.ports.file, *self.state.glob("*.pid")):
            file.unlink(missing_ok=True)

    def secret(self, name: str) -> str:
        """Return the random secret of this name, which is made at its first use."""
        file = self.config / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            file.write_text(json.dumps(known, indent=2))
        return known[name]

    def url(self, name: str, scheme: str = "https") -> str:
        """Return the URL of the server on the port of this name."""
        return f"{scheme}://127.0.0.1:{self.ports[name]}"
