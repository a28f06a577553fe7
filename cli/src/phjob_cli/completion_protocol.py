"""Entry point of `kubectl_complete-phjob`, which kubectl runs for `kubectl phjob <TAB>`.

kubectl passes the words of the command line so far, and expects one completion a line (Kubernetes, kubectl
plugins, shell completion). `kubectl-phjob --install-completion` serves the name with a hyphen instead.
"""

import io
import os
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress

from phjob_cli.app import create_app

NO_FILE_COMPLETION = 4
"""Cobra's ShellCompDirectiveNoFileComp: the shell does not offer file names."""


def main() -> None:
    """Write one completion a line, then the directive for the shell.

    Typer's own completion for fish has the same format, so it produces the lines.
    """
    words = ["kubectl-phjob", *sys.argv[1:]]
    os.environ |= {
        "_KUBECTL_PHJOB_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": shlex.join(words),
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
    }
    output = io.StringIO()
    with suppress(SystemExit), redirect_stdout(output), redirect_stderr(io.StringIO()):
        create_app()(args=[], prog_name="kubectl-phjob")
    sys.stdout.write("".join(f"{line}\n" for line in output.getvalue().splitlines() if line))
    sys.stdout.write(f":{NO_FILE_COMPLETION}\n")
