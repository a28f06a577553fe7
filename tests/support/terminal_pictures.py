"""Pictures of a terminal: the coloured output of a command as SVG."""

import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

_FORMAT = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
<rect fill="#292929" width="100%" height="100%" rx="8"/>
<g transform="translate(8, 4)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""Rich's format, without the frame of a window and without fonts from the Internet."""


def draw_terminal(output: str, file: Path) -> None:
    """Draw the output, as wide as its longest line, into an SVG file."""
    text = Text.from_ansi(output)
    width = max(line.cell_len for line in text.split())
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(text, no_wrap=True)
    console.save_svg(str(file), code_format=_FORMAT, unique_id=file.stem)
