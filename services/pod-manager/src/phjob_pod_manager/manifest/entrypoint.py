"""The entrypoint of a job's container: it makes the links and then runs the command. Pure.

PrimeHub makes the links in a postStart hook, which races the command. Here the container's first process
makes them, a POSIX sh. It then runs the command by the interpreter that the command's first line names,
otherwise under bash if the image has it. It passes SIGTERM and SIGINT on to the command's main program, and
ends with its exit code (spec.md, P9).
"""

import shlex
from collections.abc import Iterable, Mapping

from phjob_core.script import Script, read_script
from phjob_pod_manager.manifest.process_one import RUN_COMMAND

HOME = "/home/jovyan"
"""The working directory, which is the home directory of the user in Jupyter's images."""
_MAX_ARGUMENT_CHARS = 32_000
"""At most 128,000 bytes of UTF-8; Linux limits one argument to 131,071 bytes."""

_JOIN = 'IFS=; phjob_command="$*"; unset IFS; set --; '
"""Joins the arguments of the command's shell."""

_EVAL = r"""case ${LINENO:-1} in
[1-9]*) eval "unset phjob_command; $phjob_command" ;;
*) eval "unset phjob_command
$phjob_command" ;; esac""".replace("\n[", " [").replace("\n*", " *")
"""Runs the command in the shell, which counts lines from here: this is its line 1, or line 0 in busybox."""

_SCRIPT_FILE = '"$PWD"/.phjob-command'
"""The file of a command for an interpreter that takes no script as an argument.

In Python, for example, it is the module `__main__`, which other processes of the job import.
"""

_GRANT_SUDO = r"""
if id -u "$NB_USER" >/dev/null 2>&1 && command -v sudo >/dev/null && command -v setpriv >/dev/null; then
  echo "$NB_USER ALL=(ALL) NOPASSWD:ALL" >/etc/sudoers.d/phjob && chmod 440 /etc/sudoers.d/phjob
  phjob_as="setpriv --reuid $(id -u "$NB_USER") --regid $(id -g "$NB_USER") --keep-groups"
  export HOME={home}
fi
"""
"""Lets the user of Jupyter's images use sudo, and prepares the command to run as that user.

Process 1 is root. `setpriv` changes nothing in the environment, but sudo would drop LD_LIBRARY_PATH and
others. In an image without these programs or without NB_USER, the command runs as root, as in PrimeHub.
"""


def command(
    text: str,
    profile: str = "",
    links: Iterable[tuple[str, str]] = (),
    warnings: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    *,
    grant_sudo: bool = False,
) -> list[str]:
    """Return the container's `command` for the command of a job.

    `profile` is sourced before the command if it can be read. `links` are (target, link). A link that cannot
    be made, and each of the `warnings`, is reported in the log, and the command starts nevertheless.

    A POSIX sh drops variables whose name it cannot use, such as `MY-DB_USER`. `files` has the file with the
    value of each. The entrypoint sets these variables for the command's shell; bash passes them on.
    """
    script = read_script(text)
    prelude = [f"echo {shlex.quote(f'phjob: {notice}')} >&2" for notice in (*warnings, *script.notices)]
    prelude += [f"ln -sfn {shlex.quote(target)} {shlex.quote(link)}" for target, link in links]
    prelude.append("phjob_as=")
    if grant_sudo:
        prelude.append(_GRANT_SUDO.strip().replace("{home}", HOME))
    entry = "\n".join(
        [
            "trap 'exit 143' TERM INT",
            *prelude,
            *_environment(files or {}),
            *_shell(script),
            f"phjob_run={shlex.quote(_run(script, profile))}",
            RUN_COMMAND,
        ]
    )
    chunks = [
        script.text[start : start + _MAX_ARGUMENT_CHARS]
        for start in range(0, len(script.text), _MAX_ARGUMENT_CHARS)
    ]
    return [literal(part) for part in ["sh", "-c", entry, "phjob", *chunks]]


def _environment(files: Mapping[str, str]) -> list[str]:
    """Return the lines that define `phjob_start`, which becomes the program of its arguments."""
    # A command substitution removes all newlines at the end, so that a letter has to follow them.
    values = [
        f"phjob_{number}=$(cat {shlex.quote(path)}; echo x)" for number, path in enumerate(files.values())
    ]
    variables = [f'{shlex.quote(name)}="${{phjob_{number}%x}}"' for number, name in enumerate(files)]
    env = f"env {' '.join(variables)} " if files else ""
    # In a session of its own, a command that sends a signal to its process group does not reach process 1.
    session = "phjob_session=; if command -v setsid >/dev/null 2>&1; then phjob_session=setsid; fi"
    return [*values, session, f'phjob_start() {{ exec $phjob_session $phjob_as {env}"$@"; }}']


def _shell(script: Script) -> list[str]:
    """Return the lines that set `phjob_shell`, the command's shell."""
    if not script.shell:
        return ["if command -v bash >/dev/null 2>&1; then phjob_shell=bash; else phjob_shell=sh; fi"]
    return [_require(script.shell), f"phjob_shell={shlex.quote(script.shell)}"]


def _run(script: Script, profile: str) -> str:
    """Return the script of the command's shell.

    It joins the arguments, sources the profile and runs the command. It has one line, so that the lines of
    the command keep their numbers.
    """
    source = f"if [ -r {shlex.quote(profile)} ]; then . {shlex.quote(profile)}; fi; " if profile else ""
    if script.shell or not script.interpreter:
        return f"{_JOIN}{source}{_EVAL}"
    words = shlex.join(word for word in (script.interpreter, script.argument) if word)
    return (
        f'{_JOIN}printf %s "$phjob_command" >{_SCRIPT_FILE} || exit 126; unset phjob_command; '
        f"{source}{_require(script.interpreter)}; exec {words} {_SCRIPT_FILE}"
    )


def _require(program: str) -> str:
    """Return a line that ends a shell with exit code 127, as shells do, if the image lacks the program."""
    notice = f"phjob: the image has no {program}, which the first line of the command names"
    check = f"command -v {shlex.quote(program)} >/dev/null 2>&1"
    return f"{check} || {{ echo {shlex.quote(notice)} >&2; exit 127; }}"


def literal(text: str) -> str:
    """Escape the text so that Kubernetes expands nothing in it.

    Kubernetes would replace `$(NAME)` by a variable, and `$$` by `$`.
    """
    return text.replace("$", "$$")
