"""What a test measured and does not judge: printed at the end of the run, for a person to read."""

from collections.abc import Callable

Measured = Callable[[str], None]
"""Takes one sentence with a figure."""

MEASURED = "measured"
"""The name under which a test's report carries it."""
