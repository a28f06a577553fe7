import re

import escapism
from hypothesis import given
from hypothesis import strategies as st

from phjob_core.labels import label_value

VALID = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")


def test_a_name_is_escaped_as_primehub_does() -> None:
    """JupyterHub's pods have the same values, so that jobs and notebooks share a pool."""
    assert label_value("phusers") == "escaped-phusers"
    assert label_value("test-job_1") == "escaped-test-2djob-5f1"
    assert label_value("Pan") == "escaped--50an"


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255)
"""The names that the CRD accepts: no control characters."""


@given(NAMES)
def test_any_name_gives_a_valid_label_value_that_identifies_it(name: str) -> None:
    """The value can be decoded, or it is too long and ends in a hash."""
    value = label_value(name)
    assert VALID.match(value)
    if len(value) < 63:
        assert escapism.unescape(value.removeprefix("escaped-"), escape_char="-") == name
    else:
        assert label_value(name) != label_value(name + "x")


def test_long_names_with_the_same_beginning_differ() -> None:
    """The hash depends on the whole name."""
    assert label_value("a" * 200 + "b") != label_value("a" * 200 + "c")
