"""Adds commands to the Typer application, and runs them.

Typer has neither asynchronous commands nor options that all commands share. `add_command` supplies both.
"""

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from phjob_cli import kube_client
from phjob_cli.console import Console
from phjob_cli.context import Command, Context
from phjob_cli.errors import Exit, describe_error
from phjob_cli.kube_client import ConnectionOptions
from phjob_core.text import escape_controls

_PANEL = "Connection"
_CONNECTION_OPTIONS: dict[str, Any] = {
    "namespace": Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", envvar="PHJOB_NAMESPACE", rich_help_panel=_PANEL,
            help="Namespace of the jobs. Default: the namespace of the context, or hub.",
        ),
    ],
    "kubeconfig": Annotated[
        str | None,
        typer.Option(help="Path of the kubeconfig. Default: as for kubectl.", rich_help_panel=_PANEL),
    ],
    "context": Annotated[
        str | None,
        typer.Option(help="Context in the kubeconfig. Default: the current one.", rich_help_panel=_PANEL),
    ],
    "user": Annotated[
        str | None,
        typer.Option(
            envvar="PHJOB_USER", rich_help_panel=_PANEL,
            help="User name of your jobs. Default: the name by which the API server knows you.",
        ),
    ],
}  # fmt: skip


def add_command(app: typer.Typer, name: str, run: Command) -> None:
    """Add the coroutine function to the application.

    Typer derives the options from a function's signature. The function that it gets has the parameters of
    `run`, without the context, and the connection options.
    """

    def call(**arguments: Any) -> None:
        options = ConnectionOptions(**{key: arguments.pop(key) for key in _CONNECTION_OPTIONS})
        sys.exit(run_command(lambda context: run(context, **arguments), options))

    own = list(inspect.signature(run, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for key, annotation in _CONNECTION_OPTIONS.items()
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = run.__doc__
    app.command(name)(call)


def run_command(run: Callable[[Context], Awaitable[Exit | None]], options: ConnectionOptions) -> int:
    """Run a command to its end. Returns the exit code.

    A failure is reported in one line on standard error.
    """
    # Without a handler, warnings of libraries would appear on standard error, beside that line.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return asyncio.run(_run_connected(run, options)) or Exit.OK
    except BrokenPipeError:
        # The reader has closed the pipe, for example `| head`. Without this, Python would report the error
        # once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (Exception, KeyboardInterrupt) as error:
        message, code = describe_error(error)
        sys.stdout.flush()
        message = escape_controls(message)  # It may quote a name or a text of another user.
        sys.stderr.write(f"error: {message}\n" if code is not Exit.INTERRUPTED else f"{message}\n")
        return code


async def _run_connected(
    run: Callable[[Context], Awaitable[Exit | None]], options: ConnectionOptions
) -> Exit | None:
    async with kube_client.connect(options) as kube:
        return await run(Context(kube, Console(), options))
