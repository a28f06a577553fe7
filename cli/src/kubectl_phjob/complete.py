"""Completion in the shell: names of jobs and groups, and the protocol by which kubectl asks a plugin.

`kubectl-phjob --install-completion` serves the program's own name. For `kubectl phjob <TAB>` kubectl
runs `kubectl_complete-phjob` with the words so far (Kubernetes, kubectl plugins, shell completion).
"""

import asyncio
import io
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress

from kubectl_phjob import access, data, reading
from kubectl_phjob.access import Choice, UserKube
from shared.kube import Object, Resource

WITHIN = 3.0
"""Seconds that a person waits for a completion."""
NO_FILES = 4
"""Cobra's ShellCompDirectiveNoFileComp."""


def job_names(incomplete: str) -> list[str]:
    """The names of jobs that begin like this."""
    return _names(reading.PHJOBS, lambda item: str(item["metadata"]["name"]), incomplete)


def group_names(incomplete: str) -> list[str]:
    """The names of groups that begin like this."""
    return _names(reading.PHGROUPS, data.group_name, incomplete)


def _names(resource: Resource, name: Callable[[Object], str], incomplete: str) -> list[str]:
    async def listed() -> list[str]:
        namespace = os.environ.get("PHJOB_NAMESPACE")
        async with asyncio.timeout(WITHIN), access.connect(Choice(namespace=namespace)) as kube:
            return await _list(kube)

    async def _list(kube: UserKube) -> list[str]:
        return [found for found in (await kube.list(resource, name)).items if found.startswith(incomplete)]

    with suppress(Exception):  # No cluster, no names; a completion has nothing to say about it.
        return sorted(asyncio.run(listed()))
    return []


def main() -> None:
    """Answer kubectl: one completion a line, and what the shell shall do beside."""
    from kubectl_phjob import commands  # noqa: F401, PLC0415 - they import the names above
    from kubectl_phjob.app import app  # noqa: PLC0415

    words = ["kubectl-phjob", *sys.argv[1:]]
    os.environ |= {
        "_KUBECTL_PHJOB_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": shlex.join(words),
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
    }
    said = io.StringIO()
    with suppress(SystemExit), redirect_stdout(said), redirect_stderr(io.StringIO()):
        app(args=[], prog_name="kubectl-phjob")
    sys.stdout.write("".join(f"{line}\n" for line in said.getvalue().splitlines() if line))
    sys.stdout.write(f":{NO_FILES}\n")
