"""Planted bugs: replacements of parts of the product's code for the duration of a run."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

Bug = Callable[[], AbstractContextManager[object]]
"""A function that returns a context. The bug is in the code while the context is open."""


def replace(owner: object, name: str, replacement: object) -> Bug:
    """Return the bug that replaces one attribute of a class or module."""
    return lambda: patch.object(owner, name, replacement)


def combine(*bugs: Bug) -> Bug:
    """Return the bug that consists of several replacements."""

    def plant() -> AbstractContextManager[object]:
        stack = ExitStack()
        for bug in bugs:
            stack.enter_context(bug())
        return stack

    return plant
