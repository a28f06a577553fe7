"""Measurements that tests report without a verdict. They are printed at the end of the run."""

from collections.abc import Callable

MeasurementReporter = Callable[[str], None]
"""A function that takes one sentence with a figure."""

MEASUREMENT_PROPERTY = "measured"
"""The name of the property of a test report that holds a measurement."""
