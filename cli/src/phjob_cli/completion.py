"""Names of jobs and groups for completion in the shell."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from phjob_cli import kube_client, queries, serialize
from phjob_cli.kube_client import ConnectionOptions, UserKube
from phjob_core.api import Object
from phjob_core.resource import Resource
from phjob_core.text import escape_controls

TIMEOUT_SECONDS = 3.0
"""Longest wait for the API server after the Tab key."""


def job_names(incomplete: str) -> list[str]:
    """Return the names of jobs that begin with `incomplete`."""
    return _complete(queries.PHJOBS, lambda item: str(item["metadata"]["name"]), incomplete)


def group_names(incomplete: str) -> list[str]:
    """Return the names of groups that begin with `incomplete`."""
    return _complete(queries.PHGROUPS, serialize.group_name, incomplete)


def _complete(resource: Resource, name: Callable[[Object], str], incomplete: str) -> list[str]:
    """Return the matching names in order; none without an answer in time."""

    async def connect_and_list() -> list[str]:
        options = ConnectionOptions(namespace=os.environ.get("PHJOB_NAMESPACE"))
        async with asyncio.timeout(TIMEOUT_SECONDS), kube_client.connect(options) as kube:
            return await matching(kube)

    async def matching(kube: UserKube) -> list[str]:
        found = (await kube.list(resource, name)).items
        # The shell shows and inserts a name as it is, so one with control characters is left out.
        return [one for one in found if one.startswith(incomplete) and one == escape_controls(one)]

    with suppress(Exception):  # An error message would end up in the user's command line.
        return sorted(asyncio.run(connect_and_list()))
    return []
