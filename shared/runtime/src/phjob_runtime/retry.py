"""Retry delays with random jitter: the part of `phjob_core.backoff` that is not pure."""

import random

from phjob_core.backoff import Backoff


def retry_delay(backoff: Backoff, failures: int) -> float:
    """Return the delay in seconds after a number of failures in a row, with jitter."""
    return backoff.delay(failures, random.random())  # noqa: S311 - jitter needs no cryptography
