"""The shell scripts of process 1: they start the command, and pass signals on to its main program. Pure.

They are files of their own, `start.sh` and `stop.sh`, whose comments explain them (spec.md, P15; ADR 18).
"""

from importlib.resources import files


def _shell_source(name: str) -> str:
    """Return a shell script of this package without comments and indentation, which every pod would hold."""
    lines = files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
    stripped = (line.strip() for line in lines)
    return "\n".join(line for line in stripped if line and not line.startswith("#"))


RUN_COMMAND = "\n".join([_shell_source("stop.sh"), _shell_source("start.sh")])
"""The end of the entrypoint. It does not return.

It needs these names:

- `phjob_start`: a function that becomes the program of its arguments;
- `phjob_shell`, `phjob_run`: the command's shell and its script;
- `phjob_as`: the words before a program that run it as the command's user.
"""
