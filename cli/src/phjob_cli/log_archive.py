"""Reads logs from the log archive. The only module here that imports obstore, the extra `logs`.

The credentials are the user's own, from the environment, by the names of the provider (`AWS_...`).
"""

from collections.abc import AsyncIterator
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from phjob_cli.errors import CliError, Exit

_MAX_CAUSE_CHARS = 200
"""Longest part of obstore's message in an error."""


async def read(url: str) -> AsyncIterator[bytes]:
    """Read an archived log. Yields it in pieces.

    Raises:
        CliError: The archive cannot be read from this machine.

    """
    folder, _, name = url.rpartition("/")
    try:
        store = LocalStore.from_url(folder) if folder.startswith("file:") else _open_remote(folder)
        found = await obstore.get_async(store, name)
        async for piece in found:
            yield bytes(piece)
    except (BaseError, OSError, ValueError) as error:
        cause = str(error).strip().partition("\n")[0][:_MAX_CAUSE_CHARS]
        msg = f"the log is archived at {url}, which cannot be read from here: {cause}"
        raise CliError(msg, Exit.NOT_FOUND) from error


def _open_remote(folder: str) -> ObjectStore:
    return from_url(
        folder,
        # An http:// endpoint comes from the user's own environment, so it is intended.
        client_options={"connect_timeout": "5s", "timeout": "60s", "allow_http": True},
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=10)},
    )
