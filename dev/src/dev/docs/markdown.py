"""Markdown for generated pages, and the docstrings that they quote."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

SPEC_RULE = re.compile(r"\bspec\.md, ([A-Z]\d+)")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. A `|` inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines
    )


def code(text: str) -> str:
    """Return the text as code; nothing if it is empty."""
    return f"`{text}`" if text else ""


def prose(docstring: str) -> str:
    """Return a docstring as one line, with links to the rules that it cites."""
    text = " ".join(docstring.split())
    text = SPEC_RULE.sub(lambda rule: f"[{rule[1]}](../spec.md#{rule[1].lower()})", text)
    return text.replace("<", "&lt;")


def attribute_docstrings(cls: type) -> Mapping[str, str]:
    """Return the docstrings of a class's attributes, its bases' included.

    Python keeps none for attributes, so this reads the source.
    """
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        if owner.__module__.startswith("phjob_"):
            found |= _own_docstrings(owner)
    return found


def _own_docstrings(cls: type) -> Mapping[str, str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)  # noqa: S101 - for mypy
    return {
        attribute.target.id: text.value.value
        for attribute, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(attribute, ast.AnnAssign)
        and isinstance(attribute.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
