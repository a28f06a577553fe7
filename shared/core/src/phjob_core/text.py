"""Texts of other users for terminals: control characters become visible. Pure.

A terminal executes some characters instead of showing them. Without this, the log of one user's job could
change the window, the clipboard or the lines of whoever reads its message.
"""

import re

_CONTROLS = (
    "\x00-\x1f\x7f-\x9f"  # C0 and C1 controls. ESC begins a sequence, and so does C1's CSI.
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Controls of direction, which reorder what a reader sees.
    "\u2028\u2029"  # Separators of lines and paragraphs.
    "\ud800-\udfff"  # Halves of a pair, which no terminal can be sent.
)
_SHORT_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}
_UNSAFE = re.compile(f"[{_CONTROLS}]")
_UNSAFE_EXCEPT_LAYOUT = re.compile(f"(?![\t\n])[{_CONTROLS}]")


def escape_controls(text: str, *, keep_layout: bool = False) -> str:
    r"""Return the text with each control character as JSON's escape, such as `\n` or `\u001b`.

    `keep_layout` keeps newlines and tabs.
    """
    unsafe = _UNSAFE_EXCEPT_LAYOUT if keep_layout else _UNSAFE
    return unsafe.sub(lambda found: _SHORT_ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}"), text)
