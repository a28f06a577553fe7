"""The store of the log archive: an object store or a folder, with one object for each attempt.

`archiver` decides which log is stored when. This is the only module that imports obstore.
"""

import re
from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from phjob_core.errors import RetryableError, SettingsError
from phjob_core.labels import label_value
from phjob_core.messages import JobSeen, PodSeen
from phjob_runtime.settings import LogArchive

PART_BYTES = 5 * 1024**2
"""The size of one part of an upload: the minimum of S3."""
MAX_CONCURRENT_PARTS = 2

_MAX_ERROR_CHARS = 512
_MAX_CAUSE_CHARS = 200


class ArchiveError(RetryableError):
    """The archive has not stored a log."""


class Archive:
    """The log archive of the settings."""

    def __init__(self, settings: LogArchive) -> None:
        """Configure the store. It is not contacted yet.

        Raises:
            SettingsError: the URL does not name a supported store.

        """
        self._url = settings.url.rstrip("/")
        try:
            self._store = (
                LocalStore.from_url(settings.url, mkdir=True)
                if settings.url.startswith("file:")
                else from_url(
                    settings.url,
                    # An operator who configures an endpoint with http:// has chosen that.
                    client_options={"connect_timeout": "5s", "timeout": "20s", "allow_http": True},
                    retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
                )
            )
        except (BaseError, ValueError, OSError) as error:
            msg = f"logArchive.url: {_describe(error)} (is {settings.url!r})"
            raise SettingsError(msg) from error

    def url(self, job: JobSeen, pod: PodSeen) -> str:
        """Return the URL of this pod's log, whether it is stored yet or not."""
        return f"{self._url}/{_key(job, pod)}"

    async def put(self, job: JobSeen, pod: PodSeen, chunks: AsyncIterator[bytes]) -> None:
        """Store the log of this pod, completely or not at all.

        Raises:
            ArchiveError: it is not stored.

        """
        start: deque[bytes] = deque()
        size = 0
        async for chunk in chunks:
            start.append(chunk)
            size += len(chunk)
            if size >= PART_BYTES:
                break

        async def all_chunks() -> AsyncIterator[bytes]:
            while start:  # Without copies of the start, because four logs are stored at once.
                yield start.popleft()
            async for chunk in chunks:
                yield chunk

        key = _key(job, pod)
        try:
            if size < PART_BYTES:  # One request instead of three, because most logs are short.
                await obstore.put_async(self._store, key, b"".join(start), use_multipart=False)
            else:
                await obstore.put_async(
                    self._store,
                    key,
                    all_chunks(),
                    chunk_size=PART_BYTES,
                    max_concurrency=MAX_CONCURRENT_PARTS,
                )
        except (BaseError, OSError) as error:
            raise ArchiveError(_describe(error, key)) from error


def _key(job: JobSeen, pod: PodSeen) -> str:
    """Return the key of this pod's log in the store (spec.md, L14).

    It begins with the group, so that access can be granted by group. It contains the uid, because the name
    of a job may be used again.
    """
    return f"{label_value(job.group)}/{job.name}/{job.uid}/attempt-{pod.attempt}.log"


def _describe(error: BaseException, key: str | None = None) -> str:
    """Return an error of obstore in one line, with its cause, and without the key, which may be long.

    The text of a failed connection ends in `HTTP error: error sending request`. Only the dump of the error,
    which obstore appends, contains the cause, such as a certificate that is not trusted: the innermost error.
    """
    text, _, dump = str(error).partition("\n\nDebug source:\n")
    if key:
        text = text.replace(key, "...")
    cause = ""
    if "reqwest::Error" in dump:
        innermost = re.split(r"\b(?:source|error): ", dump)[-1]
        words = (line.strip(" ,()[]{}") for line in innermost.splitlines())
        cause = f": {' '.join(filter(None, words))[:_MAX_CAUSE_CHARS]}"
    return " ".join(text.split())[: _MAX_ERROR_CHARS - len(cause)] + cause
