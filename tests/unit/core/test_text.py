"""Control characters in the texts of other users."""

import json
import unicodedata

import pytest

from phjob_core.text import escape_controls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("\x1b[2J", r"\u001b[2J"),
        ("\x9b2J", r"\u009b2J"),
        ("\x9d0;title\x9c", r"\u009d0;title\u009c"),
        ("exe\u202etxt.\u202c", r"exe\u202etxt.\u202c"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("\x7f\x08\x00", r"\u007f\u0008\u0000"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("a\u2028b", r"a\u2028b"),
        ("half \ud800", r"half \ud800"),
    ],
    ids=["OSC", "CSI", "CSI of C1", "OSC of C1", "bidi", "isolate", "DEL", "layout", "separator", "half"],
)
def test_a_control_character_becomes_visible(text: str, shown: str) -> None:
    """The terminal shows it, and does not execute it."""
    assert escape_controls(text) == shown
    assert escape_controls(shown) == shown
    assert json.loads(f'"{shown}"') == text, "JSON and YAML read the escape as the character"


def test_text_in_any_script_stays_as_it_is() -> None:
    """Joiners belong to the spelling of some scripts, and to emoji."""
    text = "R & D \u4e2d\u6587\u3000\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 "
    text += "\U0001f469\u200d\U0001f52c e\u0301 \\ \u00a0"
    assert escape_controls(text) == text


def test_layout_can_be_kept() -> None:
    """The message of a failed job has several lines."""
    assert escape_controls("a\n\tb\r\x1b", keep_layout=True) == "a\n\tb" + r"\r\u001b"


def test_no_character_of_the_category_control_is_left() -> None:
    """Unicode has no others."""
    everything = "".join(map(chr, range(0x11000)))
    left = {unicodedata.category(char) for char in escape_controls(everything)}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}
