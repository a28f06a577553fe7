"""The one error that a person reads: what went wrong, and what to do about it.

Anything else that escapes is a fault of this package, and keeps its traceback.
"""


class DevError(Exception):
    """Its message stands alone: no traceback is needed to act on it."""
