"""The log archive: a place in an object store or a folder, for logs that outlive their pods.

One object for each try of a job. Which log is stored when is `logs`' part. The only module that
imports obstore.
"""

from collections.abc import AsyncIterator
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from shared.errors import RetryableError, SettingsError
from shared.labels import label_value
from shared.messages import JobSeen, PodSeen
from shared.settings import LogArchive

CHUNK = 5 * 1024**2
"""Bytes of one part of an upload: S3's least."""
CHUNKS_AT_ONCE = 2

_LONGEST = 300


class ArchiveError(RetryableError):
    """The archive does not take a log now."""


class Archive:
    """The archive of the settings."""

    def __init__(self, settings: LogArchive) -> None:
        """Opens nothing yet.

        Raises:
            SettingsError: there is no such kind of archive.

        """
        self._url = settings.url.rstrip("/")
        try:
            self._store = (
                LocalStore.from_url(settings.url, mkdir=True)
                if settings.url.startswith("file:")
                else from_url(
                    settings.url,
                    # An operator who names an http:// endpoint means it.
                    client_options={"connect_timeout": "5s", "timeout": "20s", "allow_http": True},
                    retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
                )
            )
        except (BaseError, ValueError, OSError) as error:
            msg = f"logArchive.url: {_first_line(error)} (is {settings.url!r})"
            raise SettingsError(msg) from error

    def url(self, job: JobSeen, pod: PodSeen) -> str:
        """Where the log of this pod is, or will be."""
        return f"{self._url}/{_key(job, pod)}"

    async def put(self, job: JobSeen, pod: PodSeen, pieces: AsyncIterator[bytes]) -> None:
        """Store the log of this pod, as a whole or not at all.

        Raises:
            ArchiveError: it is not stored.

        """
        start = bytearray()
        async for piece in pieces:
            start += piece
            if len(start) >= CHUNK:
                break

        async def from_start() -> AsyncIterator[bytes]:
            yield bytes(start)
            async for piece in pieces:
                yield piece

        key = _key(job, pod)
        try:
            if len(start) < CHUNK:  # One request instead of three; most logs are short.
                await obstore.put_async(self._store, key, bytes(start), use_multipart=False)
            else:
                await obstore.put_async(
                    self._store, key, from_start(), chunk_size=CHUNK, max_concurrency=CHUNKS_AT_ONCE
                )
        except (BaseError, OSError) as error:
            raise ArchiveError(_first_line(error)) from error


def _key(job: JobSeen, pod: PodSeen) -> str:
    """By group, so that access can be given by group; by uid, for a name may be used again."""
    return f"{label_value(job.group)}/{job.name}/{job.uid}/attempt-{pod.attempt}.log"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:_LONGEST]
