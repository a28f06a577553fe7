"""The user whose jobs must go on: a process of its own, which submits a small job again and again.

It measures the time from each submission until a watch shows the job admitted. In a process of its own,
neither the attacks nor the checks delay it. Its output is JSON lines. It stops when its input ends.
"""

import json
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

from tests.support.api import Api, ApiError
from tests.support.builders import a_job
from tests.support.cluster import FINAL_PHASES, NAMESPACE
from tests.support.waiting import eventually

VICTIM, VICTIMS = "vera", "victims"
"""The user, and the group of the user's jobs."""
ROOT = Path(__file__).parents[2]
END_TIMEOUT_SECONDS = 300.0
"""The time in which the last jobs have to end."""


@dataclass
class Jobs:
    """What happened to the victim's jobs."""

    submitted: dict[str, float] = field(default_factory=dict)
    """When the request was sent, by job."""
    admitted: dict[str, float] = field(default_factory=dict)
    """When the job was first seen in another phase than Pending."""
    ended: dict[str, str] = field(default_factory=dict)
    """The final phase of each job that has ended."""
    refused: list[str] = field(default_factory=list)
    """The errors of the submissions that the API server refused."""

    def milliseconds(self) -> list[float]:
        """Return the time from the submission to the admission of each admitted job."""
        return [
            1000 * (self.admitted[name] - at) for name, at in self.submitted.items() if name in self.admitted
        ]

    def problems(self) -> list[str]:
        """Return a description of each job that was not accepted, admitted and successful."""
        ends = {name: self.ended.get(name, "has not ended") for name in self.submitted}
        return self.refused + [f"{name}: {end}" for name, end in ends.items() if end != "Succeeded"]


class Victim:
    """The process, from the first submission to the end of the last job."""

    def __init__(self, kubeconfig: Path, output: Path, *, rate: float) -> None:
        """Submit so many jobs per second. `output`: a file that does not exist yet."""
        self._command = [
            sys.executable,
            "-m",
            "tests.hostile.victim",
            str(kubeconfig),
            output.stem,
            str(rate),
        ]
        self._output = output

    def __enter__(self) -> Self:
        with self._output.open("w") as out:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=out)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def jobs(self) -> Jobs:
        """Return what has happened up to now."""
        jobs = Jobs()
        for line in self._output.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # The last line may not be complete.
                entry = json.loads(line)
                _RECORD[entry.pop("what")](jobs, **entry)
        return jobs

    def wait_for_admissions(self, count: int) -> None:
        """Wait until so many jobs are admitted."""
        eventually(
            lambda: len(self.jobs().admitted) >= count,
            f"{count} jobs of {VICTIM} are admitted",
            within=END_TIMEOUT_SECONDS,
            diagnostics=lambda: self.jobs().problems(),
        )

    def finish(self) -> Jobs:
        """Stop submitting, and wait for the end of all jobs."""
        self._process.communicate()
        assert self._process.returncode == 0, "the victim's process has failed"
        return self.jobs()


_RECORD: dict[str, Any] = {
    "submitted": lambda jobs, name, at: jobs.submitted.__setitem__(name, at),
    "refused": lambda jobs, name, error: (jobs.submitted.pop(name), jobs.refused.append(error)),
    "admitted": lambda jobs, name, at: jobs.admitted.setdefault(name, at),
    "ended": lambda jobs, name, phase: jobs.ended.__setitem__(name, phase),
}
"""How each kind of output line changes `Jobs`."""


class _Process:
    """The child process's own part: a thread watches, and the main thread submits."""

    def __init__(self, api: Api, prefix: str) -> None:
        self._api, self._prefix = api, prefix
        self._pending = set[str]()
        """The submitted jobs that have not ended."""
        self._lock = threading.Lock()

    def run(self, rate: float) -> None:
        """Submit until the input ends. Then wait for the end of all jobs."""
        revision = self._list()
        threading.Thread(target=self._watch, args=(revision,), daemon=True).start()
        begun, number = time.monotonic(), 0
        while not _input_ended(begun + number / rate - time.monotonic()):
            self._submit(f"{self._prefix}-{number:05}")
            number += 1
        deadline = time.monotonic() + END_TIMEOUT_SECONDS
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.05)

    def _submit(self, name: str) -> None:
        job = a_job(name, group=VICTIMS, user=VICTIM, run_for="0.1s", ttlSecondsAfterFinished=1)
        with self._lock:
            self._pending.add(name)
        self._report(what="submitted", name=name, at=time.time())
        try:
            self._api.create(job)
        except (ApiError, OSError, HTTPException) as error:
            with self._lock:
                self._pending.discard(name)
            self._report(what="refused", name=name, error=repr(error))

    def _list(self) -> str:
        """Report the present state of all jobs. Returns its revision."""
        listing = self._api.list("PhJob", fieldSelector=f"spec.groupName={VICTIMS}")
        for job in listing["items"]:
            self._observe(job)
        return str(listing["metadata"]["resourceVersion"])

    def _watch(self, revision: str) -> None:
        while True:
            # An API server ends a watch that is slow, or whose revision is too old.
            with (
                suppress(OSError, HTTPException),
                self._api.watch("PhJob", revision, fieldSelector=f"spec.groupName={VICTIMS}") as watch,
            ):
                for event in watch:
                    if event["type"] == "ERROR":
                        revision = self._list()
                        break
                    revision = event["object"]["metadata"]["resourceVersion"]
                    self._observe(event["object"])

    def _observe(self, job: dict[str, Any]) -> None:
        name, phase = job["metadata"]["name"], job["status"]["phase"]
        with self._lock:
            if name not in self._pending or phase == "Pending":
                return
            if phase in FINAL_PHASES:
                self._pending.discard(name)
        self._report(what="admitted", name=name, at=time.time())
        if phase in FINAL_PHASES:
            self._report(what="ended", name=name, phase=phase)

    def _report(self, **entry: Any) -> None:
        with self._lock:
            sys.stdout.write(f"{json.dumps(entry)}\n")
            sys.stdout.flush()


def _input_ended(within: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], max(within, 0))
    return bool(readable)


if __name__ == "__main__":
    _kubeconfig, _prefix, _rate = sys.argv[1:]
    _Process(Api(Path(_kubeconfig), NAMESPACE), _prefix).run(float(_rate))
