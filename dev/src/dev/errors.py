"""The error that is shown to the user: its message has the problem and its remedy.

Any other exception is a bug of this package, and is shown with its traceback.
"""


class DevError(Exception):
    """An error whose message is enough to act on, without a traceback."""
