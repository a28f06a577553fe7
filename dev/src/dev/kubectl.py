"""kubectl with one kubeconfig: the program on PATH, otherwise the one that `tools` builds."""

import shutil
import subprocess
from pathlib import Path

from dev.errors import DevError
from dev.tools import KUBERNETES, tools


def kubectl_path() -> Path:
    """Return the path of kubectl, and build it if PATH and the cache have none."""
    on_path = shutil.which("kubectl")
    return Path(on_path) if on_path else tools(KUBERNETES) / "kubectl"


class Kubectl:
    """kubectl for the cluster of one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(kubectl_path()), f"--kubeconfig={kubeconfig}"]

    def __call__(self, *args: str, given: str | None = None) -> str:
        """Run kubectl with `given` as its standard input. Returns its standard output.

        Raises:
            DevError: it failed. The message has its standard error.

        """
        done = subprocess.run(
            [*self._command, *args], input=given, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DevError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout
