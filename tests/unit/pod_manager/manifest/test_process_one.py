"""Process 1, the shells and the programs are real; each test runs in images with different shells."""

import itertools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.container import IMAGES, Container, expanded, make_image

from phjob_pod_manager.manifest.entrypoint import command

Run = Callable[..., Container]
SIGTERM, SIGINT = signal.SIGTERM, signal.SIGINT

TRAINER = """
import os, signal, subprocess, sys, time
role, code = sys.argv[1], int(sys.argv[2])
def save(number, frame):
    print(f"{role}: signal {number}, saving", flush=True)
    time.sleep(0.3)
    print(f"{role}: saved", flush=True)
    sys.exit(code)
if role != "plain":
    signal.signal(signal.SIGTERM, save)
if "workers" in sys.argv:
    for _ in range(2):
        subprocess.Popen([sys.executable, sys.argv[0], "worker", "0"])
print(f"{role}: ready", flush=True)
while True:
    time.sleep(0.05)
"""
"""A program that saves a checkpoint when it receives SIGTERM, unless it is `plain`. It may start workers."""
SCRIPT = "#!/bin/sh\npython train.py main 7\necho NEXT\n"
"""A script of the user's image, which starts the trainer."""
PREPARE = f"""
cat >train.py <<'END-OF-FILE'
{TRAINER}END-OF-FILE
cat >run.sh <<'END-OF-FILE'
{SCRIPT}END-OF-FILE
chmod +x run.sh
"""
SAVED = ["main: signal 15, saving", "main: saved"]

every_image = pytest.mark.parametrize("image", IMAGES)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that starts a command in an image."""
    numbers = itertools.count()

    def start(text: str, image: str, **more: Any) -> Container:
        path = make_image(image, tmp_path / f"image-{next(numbers)}")
        home = tmp_path / f"home-{next(numbers)}"
        home.mkdir()
        argv = [expanded(part) for part in command(text, **more)]
        return Container([str(path / argv[0]), *argv[1:]], home, path)

    return start


def stop(container: Container, ready: str = "main: ready") -> tuple[int, list[str]]:
    """Stop the container when the command is ready. Returns its exit code, and what it has written since."""
    container.wait_for(ready)
    before = len(container.log)
    container.signal(SIGTERM)
    code = container.wait()
    return code, container.log[before:].splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "python train.py main 7",
        "mkdir there; cd there && python ../train.py main 7",
        "exec python train.py main 7",
        "python train.py main 7\necho NEXT",
        "if ! python train.py main 7; then echo NEXT; fi",
        "python train.py main 7 | tee log",
        '{ python train.py main 7; echo NEXT; } | while read -r line; do sleep 0.01; echo "$line"; done',
        "while sleep 0.1; do echo data; done | python train.py main 7",
        "sh run.sh\necho NEXT",
        "./run.sh\necho NEXT",
        "sh -c 'python train.py main 7; echo NEXT'\necho NEXT",
        "python train.py main 7 &\nwait\necho NEXT",
        "trap '' TERM\ntrap : INT\nexec python train.py main 7",
    ],
)
def test_the_main_program_receives_sigterm_and_its_exit_code_counts(run: Run, line: str) -> None:
    """However it is started, in every image. The next lines do not run (spec.md, P15)."""
    containers = {image: run(PREPARE + line, image) for image in IMAGES}
    ended = {image: stop(container) for image, container in containers.items()}
    assert ended == dict.fromkeys(IMAGES, (7, SAVED))


@every_image
def test_an_exit_code_of_zero_counts_as_well(run: Run, image: str) -> None:
    """The program has chosen it."""
    assert stop(run(f"{PREPARE}python train.py main 0\necho NEXT", image)) == (0, SAVED)


@every_image
@pytest.mark.parametrize("start", ["sleep 600 &", "setsid sleep 600 &", "(trap '' TERM; sleep 600) &"])
def test_a_process_that_outlives_the_command_does_not_keep_the_container(
    run: Run, image: str, start: str
) -> None:
    """The container ends with the command, and the kernel ends all that is left in it."""
    container = run(f"{start}\necho on\nexit 3", image)
    assert (container.wait(), container.log) == (3, "on\n")


@every_image
def test_the_children_of_the_main_program_are_left_to_it(run: Run, image: str) -> None:
    """Such as the workers of a launcher, which would otherwise save at the same time."""
    line = f"{PREPARE}python train.py main 7 workers"
    container = run(line, image)
    container.wait_for("worker: ready", 2)
    assert stop(container) == (7, SAVED)


@every_image
def test_a_helper_in_the_background_receives_no_signal(run: Run, image: str) -> None:
    """The main program is the one that the shell waits for."""
    line = f"{PREPARE}python train.py worker 0 &\npython train.py main 7\necho NEXT"
    container = run(line, image)
    container.wait_for("worker: ready")
    assert stop(container) == (7, SAVED)


@every_image
def test_several_programs_in_the_background_are_all_the_main_program(run: Run, image: str) -> None:
    """If the shell waits for nothing else. Those that catch the signal receive it."""
    line = f"{PREPARE}python train.py main 0 & python train.py main 3 & sleep 600 & wait"
    container = run(line, image)
    container.wait_for("main: ready", 2)
    code, output = stop(container)
    assert (code, sorted(output)) == (3, sorted(SAVED * 2))


@every_image
@pytest.mark.parametrize(
    "line",
    ["python train.py plain 0", "python train.py plain 0 | tee log", "sh -c 'python train.py plain 0; :'"],
)
def test_a_program_without_a_handler_ends_at_once(run: Run, image: str, line: str) -> None:
    """The next lines of the script do not run, and the exit code is that of SIGTERM."""
    assert stop(run(f"{PREPARE}{line}\necho NEXT", image), "plain: ready") == (143, [])


@every_image
@pytest.mark.parametrize("line", ["echo ready; while :; do :; done", "echo ready; sleep 600; echo NEXT"])
def test_a_shell_without_a_trap_ends_at_once(run: Run, image: str, line: str) -> None:
    """With whatever it runs."""
    assert stop(run(line, image), "ready") == (143, [])


@every_image
def test_a_shell_that_traps_sigterm_alone_receives_it(run: Run, image: str) -> None:
    """As if it were process 1. It passes the signal on, or it does not."""
    line = f"{PREPARE}trap 'echo got TERM; exit 9' TERM\npython train.py main 7 &\nwait"
    assert stop(run(line, image)) == (9, ["got TERM"])


@every_image
def test_a_trap_that_can_choose_its_time_runs_in_a_loop(run: Run, image: str) -> None:
    """And the script goes on after it."""
    line = "trap 'stop=1' TERM; echo ready; until [ $stop ]; do sleep 0.1; done; echo saved; exit 5"
    assert stop(run(line, image), "ready") == (5, ["saved"])


@pytest.mark.parametrize("image", [image for image, (_, has_bash) in IMAGES.items() if has_bash])
def test_bash_runs_its_exit_trap_after_the_main_program(run: Run, image: str) -> None:
    """With this trap, bash catches every signal itself, and would leave the program alone."""
    line = f"{PREPARE}trap 'echo cleanup' EXIT\npython train.py main 7\necho NEXT"
    assert stop(run(line, image)) == (7, [*SAVED, "cleanup"])


@pytest.mark.parametrize("image", [image for image, (_, has_bash) in IMAGES.items() if has_bash])
def test_output_through_a_process_substitution_is_complete(run: Run, image: str) -> None:
    """`tee` receives no signal, although it is older than the main program."""
    line = "exec > >(tee log) 2>&1\npython train.py plain 0 & wait $!\necho NEXT"
    assert stop(run(PREPARE + line, image), "plain: ready") == (143, [])
    line = "exec > >(tee log) 2>&1\npython train.py main 7\necho NEXT"
    assert stop(run(PREPARE + line, image)) == (7, SAVED)


@every_image
def test_sigint_is_not_ignored_in_the_command(run: Run, image: str) -> None:
    """A POSIX shell ignores it in whatever it starts by `&` (POSIX, 2.11)."""
    line = """
trap 'echo trapped' INT; kill -INT $$; trap - INT
grep SigIgn /proc/self/status
python - <<END
import _thread
try:
    _thread.interrupt_main()
    print("ignored")
except KeyboardInterrupt:
    print("raised")
END
"""
    container = run(line, image)
    assert container.wait() == 0
    trapped, ignored, raised = container.log.splitlines()
    assert (trapped, raised) == ("trapped", "raised")
    mask = int(ignored.removeprefix("SigIgn:"), 16)  # The caller of the tests may ignore other signals.
    assert not mask & 1 << SIGINT - 1


@every_image
def test_the_main_program_receives_the_sigint_of_process_1(run: Run, image: str) -> None:
    """An image may name it as its stop signal. What follows is the script's business."""
    line = """
cat >wait.py <<END
import time
try:
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("raised")
END
python wait.py; echo NEXT
"""
    container = run(line, image)
    container.wait_for("ready")
    container.signal(SIGINT)
    assert container.wait() == 0
    assert container.log.splitlines() == ["ready", "raised", "NEXT"]


@every_image
def test_a_signal_of_the_command_to_its_process_group_stays_there(run: Run, image: str) -> None:
    """Process 1 goes on, and the exit code is the command's."""
    container = run("trap 'echo trapped; exit 4' TERM; kill 0; sleep 600", image)
    assert container.wait() == 4
    assert container.log.splitlines() == ["trapped"]


@every_image
def test_a_command_that_kills_every_process_ends_with_its_own_exit_code(run: Run, image: str) -> None:
    """Process 1 and its helpers remain."""
    container = run("kill -TERM -1; exit 4", image)
    assert container.wait() == 4
    assert container.log == ""


@every_image
def test_orphans_leave_no_zombies(run: Run, image: str) -> None:
    """Process 1 reaps them while it waits, so that a job of days does not run out of process ids."""
    line = """
for _ in 1 2 3 4 5; do (sleep 0.1 & ); done
until ! cat /proc/[0-9]*/stat 2>/dev/null | grep -q '(sleep)'; do tail -n 0 /dev/null; done
echo gone
"""
    container = run(line, image)
    assert container.wait() == 0
    assert container.log == "gone\n"


@every_image
def test_without_a_writable_folder_the_command_runs_nevertheless(
    run: Run, image: str, tmp_path: Path
) -> None:
    """Only SIGINT is then ignored in it."""
    path = make_image(image, tmp_path / "image")
    (path / "mkfifo").unlink()
    argv = [expanded(part) for part in command(f"{PREPARE}python train.py main 7")]
    container = Container([str(path / argv[0]), *argv[1:]], tmp_path, path)
    assert stop(container) == (7, SAVED)
