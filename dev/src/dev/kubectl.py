"""kubectl with one kubeconfig: the one on PATH, else the one built with the control plane."""

import shutil
import subprocess
from pathlib import Path

from dev.errors import DevError
from dev.tools import KUBERNETES, tools


def kubectl_path() -> Path:
    """The program; built now if there is none on PATH and none in the cache."""
    on_path = shutil.which("kubectl")
    return Path(on_path) if on_path else tools(KUBERNETES) / "kubectl"


class Kubectl:
    """Runs kubectl against one cluster, and no other."""

    def __init__(self, kubeconfig: Path) -> None:
        """The cluster of this kubeconfig."""
        self._command = [str(kubectl_path()), f"--kubeconfig={kubeconfig}"]

    def __call__(self, *args: str, given: str | None = None) -> str:
        """Its output; DevError with what it said if it fails. `given` is its standard input."""
        done = subprocess.run(
            [*self._command, *args], input=given, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DevError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout
