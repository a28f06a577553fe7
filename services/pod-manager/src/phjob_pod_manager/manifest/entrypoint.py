"""The entrypoint of a job's container: it makes the links and then runs the command. Pure.

PrimeHub makes the links in a postStart hook, which races the command. Here the container's first process
makes them, a POSIX sh. It then runs the command under bash if the image has it, and passes SIGTERM on to
every process of the container. It ends with the command's exit code (spec.md, P9).
"""

import shlex
from collections.abc import Iterable, Mapping

HOME = "/home/jovyan"
"""The working directory, which is the home directory of the user in Jupyter's images."""
_MAX_ARGUMENT_CHARS = 32_000
"""At most 128,000 bytes of UTF-8; Linux limits one argument to 131,071 bytes."""

_START = r"""
if command -v bash >/dev/null 2>&1; then shell=bash; else shell=sh; fi
# As process 1 this shell would ignore a SIGTERM, and its children would never see it.
trap 'if [ $$ = 1 ]; then kill -TERM -1; else kill -TERM "$!"; fi' TERM INT
{prefix}"$shell" -c "$run" phjob "$@" &
child=$!
while :; do
  wait "$child"; code=$?
  kill -0 "$child" 2>/dev/null || exit "$code"
done
"""
"""The end of the entrypoint: starts the command's shell, and waits for it."""

_RUN = r"""IFS=; phjob_command="$*"; unset IFS; set --
{profile}eval "unset phjob_command
$phjob_command"
"""
"""The script of the command's shell: joins the arguments, sources the profile and runs the command."""


_GRANT_SUDO = r"""
phjob_as=
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
    script: str,
    profile: str = "",
    links: Iterable[tuple[str, str]] = (),
    warnings: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    *,
    grant_sudo: bool = False,
) -> list[str]:
    """Return the container's `command` for a job's script.

    `profile` is sourced before the script if it can be read. `links` are (target, link). A link that cannot
    be made, and each of the `warnings`, is reported in the log, and the script starts nevertheless.

    A POSIX sh drops variables whose name it cannot use, such as `MY-DB_USER`. `files` has the file with the
    value of each. The entrypoint sets these variables for the script's shell; bash passes them on.
    """
    prelude = [f"echo {shlex.quote(f'phjob: {warning}')} >&2" for warning in warnings]
    prelude += [f"ln -sfn {shlex.quote(target)} {shlex.quote(link)}" for target, link in links]
    source = f"if [ -r {shlex.quote(profile)} ]; then . {shlex.quote(profile)}; fi\n" if profile else ""
    run = _RUN.format(profile=source)
    prefix = ""
    if grant_sudo:
        prelude.append(_GRANT_SUDO.strip().replace("{home}", HOME))
        prefix = "$phjob_as "
    if files:
        # A command substitution removes all newlines at the end, so that a letter has to follow them.
        prelude += [
            f"phjob_{number}=$(cat {shlex.quote(path)}; echo x)" for number, path in enumerate(files.values())
        ]
        values = [f'{shlex.quote(name)}="${{phjob_{number}%x}}"' for number, name in enumerate(files)]
        prefix += f"env {' '.join(values)} "
    start = _START.strip().replace("{prefix}", prefix)
    entry = "\n".join(["trap 'exit 143' TERM INT", *prelude, f"run={shlex.quote(run)}", start])
    chunks = [
        script[start : start + _MAX_ARGUMENT_CHARS] for start in range(0, len(script), _MAX_ARGUMENT_CHARS)
    ]
    return [literal(part) for part in ["sh", "-c", entry, "phjob", *chunks]]


def literal(text: str) -> str:
    """Escape the text so that Kubernetes expands nothing in it.

    Kubernetes would replace `$(NAME)` by a variable, and `$$` by `$`.
    """
    return text.replace("$", "$$")
