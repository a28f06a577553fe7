"""The entry is run for real, by the shells that this machine has."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.container import ENTRY_SHELLS, expanded, find

from phjob_pod_manager.manifest.entrypoint import command

NO_PROFILE = "/nowhere/profile"


@pytest.fixture(autouse=True, scope="module")
def _working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start in an empty folder, as a container does."""
    with contextlib.chdir(tmp_path_factory.mktemp("home")):
        yield


def start(
    script: str,
    shell: str = "dash",
    profile: str = NO_PROFILE,
    links: list[tuple[str, str]] | None = None,
    warnings: list[str] | None = None,
    **more: Any,
) -> subprocess.Popen[bytes]:
    argv = [expanded(part) for part in command(script, profile, links or [], warnings or [], **more)]
    program, *options = ENTRY_SHELLS[shell]
    return subprocess.Popen(
        [find(program), *options, *argv[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


def run(script: str, shell: str = "dash", **more: object) -> tuple[int, str, str]:
    process = start(script, shell, **more)  # type: ignore[arg-type]
    out, error = process.communicate(timeout=60)
    return process.returncode, out.decode(), error.decode()


every_shell = pytest.mark.parametrize("shell", ENTRY_SHELLS)


@every_shell
@pytest.mark.parametrize("code", [0, 1, 3, 137, 143])
def test_the_exit_code_is_the_commands_own(shell: str, code: int) -> None:
    """Kubernetes and the user's scripts depend on it."""
    assert run(f"exit {code}", shell)[0] == code


@every_shell
def test_a_command_runs_exactly_as_written(shell: str) -> None:
    """With quotes, dollars, heredocs, Unicode and several lines."""
    script = """
for word in 'a  b' "c" \\$d; do printf '%s|' "$word"; done
cat <<EOT
$(echo sub) `echo ticks` $((1 + 2)) "double" 'single' \\\\ é 漢 🎉
EOT
cat <<'EOT'
$(not run) $$ $NOT_SET $(PRIMEHUB_USER)
EOT
echo "$#:$*"
"""
    code, out, error = run(script, shell)
    assert (code, error) == (0, "")
    assert out.splitlines() == [
        "a  b|c|$d|sub ticks 3 \"double\" 'single' \\ é 漢 🎉",
        "$(not run) $$ $NOT_SET $(PRIMEHUB_USER)",
        "0:",
    ]


@every_shell
@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        pytest.param("cat; read -r line || echo none", 0, "none\n", id="reads-stdin"),
        pytest.param("set -euo pipefail\necho on | cat\nexit 4", 4, "on\n", id="strict"),
        pytest.param("set -euo pipefail\nfalse | cat\necho not reached", 1, "", id="strict-pipe-fails"),
        pytest.param("trap 'echo bye' EXIT\necho on\n", 0, "on\nbye\n", id="trap-at-the-last-line"),
        pytest.param("trap 'echo bye' EXIT\nexit 3", 3, "bye\n", id="trap-at-exit"),
        pytest.param("trap 'exit 5' EXIT\nexit 3", 5, "", id="trap-changes-the-exit-code"),
        pytest.param("cat <<END\nlast\nEND", 0, "last\n", id="heredoc-without-a-newline"),
        pytest.param("cat <<-END\n\t\tlast\n\tEND\n\techo\t'a\tb'\t", 0, "last\na\tb\n", id="tabs"),
    ],
)
def test_an_unusual_script_runs_as_in_a_file(shell: str, script: str, code: int, output: str) -> None:
    """It has an empty input, its own traps and options, and needs no newline at its end."""
    assert run(script, shell) == (code, output, "")


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_reaches_the_command_unchanged(text: str) -> None:
    """A quoted heredoc prints it again."""
    end = "END-OF-TEXT"
    code, out, error = run(f"cat <<'{end}'\n{text}\n{end}\n")
    assert (code, out) == (0, f"{text}\n")
    assert (error == "") == ("\r\n" not in f"{text}\n")


def test_a_command_may_have_256_kib_of_the_widest_characters() -> None:
    """That is the CRD's bound. One argument of a process has at most 128 KiB."""
    for letter in ("x", "🎉"):
        size = 262_144 // len(letter.encode()) - 40
        code, out, _ = run(f"printf %s '{letter * size}' | wc -c")
        assert (code, out.strip()) == (0, str(size * len(letter.encode())))


@every_shell
def test_the_links_exist_before_the_command_starts(shell: str, tmp_path: Path) -> None:
    """PrimeHub makes them in a hook that races the command."""
    link = tmp_path / "it's a link"
    code, out, _ = run(f'ls -d "{link}/."', shell, links=[(str(tmp_path), str(link))])
    assert (code, out.strip()) == (0, f"{link}/.")


def test_warnings_are_in_the_log_and_the_command_starts_nevertheless() -> None:
    """So are links that cannot be made. A broken dataset does not fail the job."""
    code, out, error = run("echo on", links=[("/a", "/nowhere/link")], warnings=["dataset x does not exist"])
    assert (code, out) == (0, "on\n")
    assert "phjob: dataset x does not exist" in error
    assert "/nowhere/link" in error


@every_shell
def test_a_groups_profile_is_sourced_before_the_command(shell: str, tmp_path: Path) -> None:
    """In the command's own shell."""
    profile = tmp_path / "profile"
    profile.write_text("FROM_PROFILE=yes\n")
    assert run("echo $FROM_PROFILE", shell, profile=str(profile))[1] == "yes\n"
    assert run("echo $FROM_PROFILE", shell, profile="")[1] == "\n"


def test_the_command_runs_under_bash_where_there_is_one() -> None:
    """Otherwise it runs under sh (spec.md, P9)."""
    assert run("echo ${BASH_VERSION:+bash}")[1] == "bash\n"


@every_shell
@pytest.mark.parametrize("value", ["it's $HOME", "", "two\nlines\n\n", "\n", "漢 🎉 \\n"])
def test_a_variable_whose_name_no_shell_can_use_reaches_the_command(
    shell: str, value: str, tmp_path: Path
) -> None:
    """For example `MY-DB_USER` of an env dataset, byte for byte (spec.md, P8, P9)."""
    file = tmp_path / "it's a file"
    file.write_text(value)
    code, out, error = run("env -0", shell, files={"MY-DB_USER": str(file), "MY.DB": str(file)})
    assert (code, error) == (0, "")
    assert {f"MY-DB_USER={value}", f"MY.DB={value}"} <= {*out.split("\0")}


@every_shell
def test_in_an_image_without_jupyters_user_sudo_changes_nothing(shell: str) -> None:
    """The command then runs as the user of process 1, which is root (spec.md, P10)."""
    assert run("id -u; exit 3", shell, grant_sudo=True) == (3, f"{os.getuid()}\n", "")


def test_the_entrypoint_leaves_nothing_in_the_commands_shell() -> None:
    """No variable, and no changed separator."""
    assert run('a="1 2"; set -- $a; echo "$# ${phjob_command-none}"')[1] == "2 none\n"


@every_shell
def test_error_messages_of_a_shell_have_the_line_numbers_of_the_command(shell: str) -> None:
    """With a profile and a dataset's variable, too."""
    command_text = "true\nno-such-program\ncat <<END\nx\nEND\nalso-missing\n"
    code, _, error = run(command_text, shell)
    assert code == 127
    assert [re.search(r"(?:line )?(\d+):", line)[1] for line in error.splitlines()] == ["2", "6"]  # type: ignore[index]


@every_shell
@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("#!/bin/sh\necho $0 ${BASH_VERSION:+bash}", "phjob\n"),
        ("#!/bin/bash\necho $0 ${BASH_VERSION:+bash}", "phjob bash\n"),
        ("#!/usr/bin/env bash\necho $0 ${BASH_VERSION:+bash}", "phjob bash\n"),
        ("#!/bin/bash -eu\nfalse\necho not reached", ""),
        ("#!/usr/bin/env python3\nprint('Python')", "Python\n"),
        ("#!/usr/bin/env -S python3 -I\nimport sys\nprint(sys.flags.isolated, len(sys.argv))", "1 1\n"),
        ("\ufeff#!/usr/bin/env python3\r\nprint('Python')\r\n", "Python\n"),
    ],
)
def test_the_interpreter_of_the_first_line_runs_the_command(shell: str, line: str, output: str) -> None:
    """As if the command were a file that is executed."""
    code, out, _ = run(line, shell)
    assert (code, out) == (1 if "false" in line else 0, output)


def test_a_script_in_another_language_is_a_file_of_the_working_directory() -> None:
    """It can import its neighbours, and its other processes can import it."""
    Path("neighbour.py").write_text("NAME = 'next door'\n")
    program = """#!/usr/bin/env python3
import multiprocessing, neighbour, os, sys
def name():
    print(neighbour.NAME, os.path.dirname(__file__) == os.getcwd(), flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=name)
    process.start()
    process.join()
    sys.exit(process.exitcode + 3)
"""
    assert run(program) == (3, "next door True\n", "")


@every_shell
@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("#!/opt/none/python", "/opt/none/python"),
        ("#!/opt/none/bash", "/opt/none/bash"),
        ("#!/usr/bin/env no-such-shell", "no-such-shell"),
    ],
)
def test_a_missing_interpreter_is_named_and_the_exit_code_is_127(shell: str, line: str, name: str) -> None:
    """As from a shell."""
    code, out, error = run(f"{line}\necho not reached", shell)
    assert (code, out) == (127, "")
    assert name in error
    assert error.count("\n") == 1


def test_a_profile_is_sourced_before_an_interpreter_starts(tmp_path: Path) -> None:
    """It may set the PATH that the interpreter is found by."""
    profile = tmp_path / "profile"
    profile.write_text("export FROM_PROFILE=yes\n")
    program = "#!/usr/bin/env python3\nimport os\nprint(os.environ['FROM_PROFILE'])"
    assert run(program, profile=str(profile))[1] == "yes\n"


@every_shell
def test_the_line_ends_of_a_windows_file_do_no_harm(shell: str) -> None:
    """A line of the log says that they are converted."""
    code, out, error = run("set -e\r\nif true; then\r\n  echo yes\r\nfi\r\n", shell)
    assert (code, out) == (0, "yes\n")
    assert error == "phjob: the command had the line ends of Windows (CR LF); they are LF now\n"


@every_shell
def test_a_long_command_may_have_an_interpreter(shell: str) -> None:
    """Of up to 256 KiB, as any command."""
    text = "🎉" * 65_000
    assert run(f"#!/usr/bin/env python3\nprint(len('{text}'))", shell) == (0, "65000\n", "")
