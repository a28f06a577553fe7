"""Fixtures with other settings than the usual ones, for several files of tests."""

from collections.abc import Iterator

import pytest
from tests.support.stacks import LocalStack

from dev.stack import Stack


@pytest.fixture(scope="module")
def short_timeout_stack(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Stack]:
    """Set the start timeout to three seconds.

    Afterwards, the stack has the usual settings again.
    """
    yield local_stack.start("jobSubmission: {preparingTimeoutSeconds: 3}\n")
    kwok_stack.up()
