"""The context that every command gets: the API server, the console and the connection options."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from phjob_cli.console import Console
from phjob_cli.errors import Exit
from phjob_cli.kube_client import Caller, ConnectionOptions, UserKube


@dataclass(frozen=True)
class Context:
    """The API server, the console and the connection options of one run of a command."""

    kube: UserKube
    console: Console
    options: ConnectionOptions

    async def user(self) -> str:
        """Return the name in `--user`, otherwise the caller's name at the API server."""
        return (await self.caller()).name

    async def caller(self) -> Caller:
        """Return the user in `--user`, otherwise the caller as the API server knows it.

        The id of a user in `--user` is unknown: it may be another user.
        """
        return Caller(self.options.user) if self.options.user else await self.kube.whoami()


Command = Callable[..., Awaitable[Exit | None]]
"""A coroutine function. Its first argument is the context, the others are the command's own options."""
