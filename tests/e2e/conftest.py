"""Stacks with other settings than the usual ones, for several files of tests."""

from collections.abc import Iterator

import pytest
from tests.support.stacks import LocalStack

from dev.stack import Stack


@pytest.fixture(scope="module")
def impatient_stack(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Stack]:
    """The stack whose services give a pod three seconds; afterwards they have the usual settings again."""
    yield local_stack.whole("jobSubmission: {preparingTimeoutSeconds: 3}\n")
    kwok_stack.up()
