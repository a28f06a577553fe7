"""Fixtures of the unit tests."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def without_coverage() -> Iterator[None]:
    """Pause the measurement of coverage during a long test.

    Such a test would take two to four times as long, and covers nothing that short tests do not. The mark
    `no_cover` of pytest-cov has no effect in a process of pytest-xdist, which has two nested measurements.
    """
    trace = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(trace)
