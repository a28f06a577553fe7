"""How a job's command is started: links first, then the command, with nothing lost on the way.

Pure: it makes the container's `command`. PrimeHub makes the links in a postStart hook, which races
the command; here they are made by the container's own first process, a POSIX sh. It then runs the
command under bash where the image has it, passes SIGTERM on to every process of the container, and
ends with the command's own exit code.
"""

import re
import shlex
from collections.abc import Iterable, Mapping

_CHUNK = 32_000
"""Characters in one argument: at most 128,000 bytes of UTF-8, and Linux takes 131,071."""

_START = r"""
if command -v bash >/dev/null 2>&1; then shell=bash; else shell=sh; fi
# As process 1 this shell would ignore a SIGTERM, and its children would never see it.
trap 'if [ $$ = 1 ]; then kill -TERM -1; else kill -TERM "$!"; fi' TERM INT
{env}"$shell" -c "$run" phjob "$@" &
child=$!
while :; do
  wait "$child"; code=$?
  kill -0 "$child" 2>/dev/null || exit "$code"
done
"""

_RUN = r"""IFS=; phjob_command="$*"; unset IFS; set --
{profile}eval "unset phjob_command
$phjob_command"
"""
"""Inside of the command's own shell: put the pieces together, and be the command."""


_SHELL_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def command(
    script: str,
    profile: str,
    links: Iterable[tuple[str, str]] = (),
    notices: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """The container's `command` for a job's script.

    `env` is the container's own: a variable that a shell can't name (`MY-DB_USER`) gets lost on its
    way through a sh, so the command is given it anew; bash passes it on to what it starts.

    `profile` is sourced before it where it can be read; `links` are (target, link). What can't be
    linked, and each of the `notices`, is told in the log, and the command starts all the same.
    """
    prelude = [f"echo {shlex.quote(f'phjob: {notice}')} >&2" for notice in notices]
    prelude += [f"ln -sfn {shlex.quote(target)} {shlex.quote(link)}" for target, link in links]
    source = f"if [ -r {shlex.quote(profile)} ]; then . {shlex.quote(profile)}; fi\n"
    run = _RUN.format(profile=source)
    unnamable = [f"{k}={v}" for k, v in (env or {}).items() if not _SHELL_VARIABLE.fullmatch(k)]
    start = _START.strip().replace("{env}", f"env {shlex.join(unnamable)} " if unnamable else "")
    entry = "\n".join(["trap 'exit 143' TERM INT", *prelude, f"run={shlex.quote(run)}", start])
    chunks = [script[start : start + _CHUNK] for start in range(0, len(script), _CHUNK)]
    return [literal(part) for part in ["sh", "-c", entry, "phjob", *chunks]]


def literal(text: str) -> str:
    """The text so that Kubernetes leaves it as it is: it would replace `$(NAME)`, and `$$` by `$`."""
    return text.replace("$", "$$")
