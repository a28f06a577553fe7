"""The entry is run for real, by the shells that this machine has."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phjob_pod_manager.manifest.entrypoint import command

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
NO_PROFILE = "/nowhere/profile"


def expanded(text: str) -> str:
    """Return the text after Kubernetes' expansion of `$` (third_party/forked/golang/expansion)."""
    return re.sub(r"\$(\$|\(\w+\))", lambda m: "$" if m[1] == "$" else f"expanded {m[1]}", text)


def start(
    script: str,
    shell: str = "dash",
    profile: str = NO_PROFILE,
    links: list[tuple[str, str]] | None = None,
    warnings: list[str] | None = None,
    **more: Any,
) -> subprocess.Popen[bytes]:
    argv = [expanded(part) for part in command(script, profile, links or [], warnings or [], **more)]
    if not shutil.which(SHELLS[shell][0]):
        pytest.fail(f"{shell} is missing: install it")
    return subprocess.Popen(
        [*SHELLS[shell], *argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )


def run(script: str, shell: str = "dash", **more: object) -> tuple[int, str, str]:
    process = start(script, shell, **more)  # type: ignore[arg-type]
    out, error = process.communicate(timeout=60)
    return process.returncode, out.decode(), error.decode()


every_shell = pytest.mark.parametrize("shell", SHELLS)


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


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_reaches_the_command_unchanged(text: str) -> None:
    """A quoted heredoc prints it again."""
    end = "END-OF-TEXT"
    code, out, error = run(f"cat <<'{end}'\n{text}\n{end}\n")
    assert (code, out, error) == (0, f"{text}\n", "")


def test_a_command_may_have_256_kib_of_the_widest_characters() -> None:
    """That is the CRD's bound. One argument of a process has at most 128 KiB."""
    for letter in ("x", "🎉"):
        size = 262_144 // len(letter.encode()) - 40
        code, out, _ = run(f"printf %s '{letter * size}' | wc -c")
        assert (code, out.strip()) == (0, str(size * len(letter.encode())))


@every_shell
def test_a_waiting_command_receives_sigterm(shell: str) -> None:
    """The command can trap it and choose its exit code (spec.md, L9)."""
    script = "trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    process = start(script, shell)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, b"got TERM\n")


@every_shell
def test_a_command_without_a_trap_ends_by_sigterm(shell: str) -> None:
    """Its exit code is 128 plus the number of the signal."""
    process = start("echo ready; while :; do sleep 0.1; done", shell)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


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
