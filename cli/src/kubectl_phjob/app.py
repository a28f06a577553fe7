"""The command line: `kubectl phjob COMMAND`, the options that every command has, and how each ends.

A command gets a `Session`: the API server, the screen, and who asks. What it does is in `commands`.
"""

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kubectl_phjob import access
from kubectl_phjob.access import Choice, UserKube
from kubectl_phjob.errors import Exit, told
from kubectl_phjob.screen import Screen

app = typer.Typer(
    name="kubectl-phjob",
    help="Jobs in PhJob's queues: submit them, see why they wait and when they start, read their logs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True)
class Session:
    """What a command has to work with."""

    kube: UserKube
    screen: Screen
    choice: Choice

    async def user(self) -> str:
        """Who asks: `--user`, else whom the API server takes him for."""
        return self.choice.user or await self.kube.whoami()


Run = Callable[..., Awaitable[Exit | None]]

_GLOBAL = "Where and who"
_COMMON: dict[str, Any] = {
    "namespace": Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", envvar="PHJOB_NAMESPACE", rich_help_panel=_GLOBAL,
            help="The namespace of the jobs. Default: the context's, else hub.",
        ),
    ],
    "kubeconfig": Annotated[
        str | None, typer.Option(help="The kubeconfig. Default: as for kubectl.", rich_help_panel=_GLOBAL)
    ],
    "context": Annotated[str | None, typer.Option(help="Its context.", rich_help_panel=_GLOBAL)],
    "user": Annotated[
        str | None,
        typer.Option(
            envvar="PHJOB_USER", rich_help_panel=_GLOBAL,
            help="The user name of your jobs. Default: whom the API server takes you for.",
        ),
    ],
}  # fmt: skip


def command(name: str, **more: Any) -> Callable[[Run], Run]:
    """Make a coroutine a command: its first argument is the session, the others are its own options."""

    def register(run: Run) -> Run:
        def called(**given: Any) -> None:
            chosen = Choice(**{key: given.pop(key) for key in _COMMON})
            sys.exit(perform(lambda session: run(session, **given), chosen))

        own = list(inspect.signature(run, eval_str=True).parameters.values())[1:]
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for key, annotation in _COMMON.items()
        ]
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + common
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        called.__doc__ = run.__doc__
        app.command(name, **more)(called)
        return run

    return register


def perform(run: Callable[[Session], Awaitable[Exit | None]], choice: Choice) -> int:
    """Run it to its end, and say in one line what went wrong, if something did; the exit code."""
    logging.getLogger().addHandler(logging.NullHandler())  # What libraries have to say is said below.
    try:
        return asyncio.run(_connected(run, choice)) or Exit.OK
    except BrokenPipeError:  # `| head` has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (Exception, KeyboardInterrupt) as error:
        message, code = told(error)
        sys.stdout.flush()
        sys.stderr.write(f"error: {message}\n" if code is not Exit.INTERRUPTED else f"{message}\n")
        return code


async def _connected(run: Callable[[Session], Awaitable[Exit | None]], choice: Choice) -> Exit | None:
    async with access.connect(choice) as kube:
        return await run(Session(kube, Screen(), choice))
