"""The commands, one module each. Each is a coroutine; its docstring is its help text."""

import typer

from phjob_cli.commands import cancel, list_jobs, logs, queue, submit, suspend, top, why
from phjob_cli.context import Command
from phjob_cli.runner import add_command

COMMANDS: dict[str, Command] = {
    "cancel": cancel.cancel,
    "list": list_jobs.list_jobs,
    "logs": logs.logs,
    "queue": queue.queue,
    "submit": submit.submit,
    "retry": submit.retry,
    "suspend": suspend.suspend,
    "resume": suspend.resume,
    "top": top.top,
    "why": why.why,
    "explain": why.explain,
}
"""The commands by name, in the order of `--help`."""


def register(app: typer.Typer) -> None:
    """Add all commands to the application."""
    for name, run in COMMANDS.items():
        add_command(app, name, run)
