import re

import escapism
from hypothesis import given
from hypothesis import strategies as st

from shared.labels import label_value

VALID = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")


def test_a_name_is_escaped_as_primehub_does() -> None:
    """So that JupyterHub's pods carry the same value."""
    assert label_value("phusers") == "escaped-phusers"
    assert label_value("test-job_1") == "escaped-test-2djob-5f1"
    assert label_value("Pan") == "escaped--50an"


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255)
"""What the CRD accepts: no control characters."""


@given(NAMES)
def test_any_name_gives_a_valid_label_value_that_identifies_it(name: str) -> None:
    """By decoding it, or by the hash at its end where it is too long."""
    value = label_value(name)
    assert VALID.match(value)
    if len(value) < 63:
        assert escapism.unescape(value.removeprefix("escaped-"), escape_char="-") == name
    else:
        assert label_value(name) != label_value(name + "x")


def test_long_names_with_one_beginning_differ() -> None:
    """The hash is of the whole name."""
    assert label_value("a" * 200 + "b") != label_value("a" * 200 + "c")
