import pytest
from hypothesis import given
from hypothesis import strategies as st

from phjob_core.script import Script, read_script


@pytest.mark.parametrize(
    ("line", "interpreter", "argument", "shell"),
    [
        ("#!/bin/bash", "/bin/bash", "", "/bin/bash"),
        ("#! /bin/sh  ", "/bin/sh", "", "/bin/sh"),
        ("#!/usr/bin/env bash", "/usr/bin/env", "bash", "bash"),
        ("#!/bin/bash -eu", "/bin/bash", "-eu", ""),
        ("#!/usr/bin/env python3", "/usr/bin/env", "python3", ""),
        ("#!/usr/bin/env -S python3 -u", "/usr/bin/env", "-S python3 -u", ""),
        ("#!/opt/conda/bin/python", "/opt/conda/bin/python", "", ""),
        ("#!", "", "", ""),
        ("# !/bin/bash", "", "", ""),
        ("echo '#!/bin/bash'", "", "", ""),
    ],
)
def test_the_first_line_may_name_the_interpreter(
    line: str, interpreter: str, argument: str, shell: str
) -> None:
    """As in a file that Linux executes: one argument, whatever spaces it has."""
    for text in (line, f"{line}\necho a\n"):
        script = read_script(text)
        assert (script.interpreter, script.argument, script.shell) == (interpreter, argument, shell)
        assert script.text == text


def test_only_the_first_line_names_an_interpreter() -> None:
    """A later line is a comment."""
    assert read_script("\n#!/bin/bash\n") == Script("\n#!/bin/bash\n")


def test_a_byte_order_mark_is_dropped_from_the_start() -> None:
    """Notepad writes one. It would be a part of the first word."""
    assert read_script("\ufeff#!/bin/sh\necho \ufeff") == Script("#!/bin/sh\necho \ufeff", "/bin/sh")


@pytest.mark.parametrize("text", ["a\r\nb\r\n", "a\r\nb", "a\r\nb\r", "a\r\n", "a\r"])
def test_the_line_ends_of_windows_become_those_of_unix(text: str) -> None:
    """If every line has them. The job's log says so, because a heredoc changes as well."""
    script = read_script(text)
    assert script.text == text.replace("\r", "")
    assert script.notices == ("the command had the line ends of Windows (CR LF); they are LF now",)


def test_the_interpreter_of_a_windows_file_has_no_carriage_return() -> None:
    """Linux would look for a program whose name ends in one."""
    assert read_script("#!/bin/bash\r\necho\r\n").shell == "/bin/bash"
    assert read_script("#!/bin/bash\r\necho\n").shell == "/bin/bash"


def test_mixed_line_ends_are_kept_and_reported() -> None:
    """A heredoc may need them."""
    script = read_script("cat <<END\nGET / HTTP/1.0\r\n\r\nEND\n")
    assert script.text == "cat <<END\nGET / HTTP/1.0\r\n\r\nEND\n"
    (notice,) = script.notices
    assert notice.startswith("line 2 of the command ends in CR LF")


@given(st.text(st.characters(exclude_characters="\r\ufeff")))
def test_any_other_text_is_unchanged(text: str) -> None:
    """Byte for byte."""
    script = read_script(text)
    assert (script.text, script.notices) == (text, ())
