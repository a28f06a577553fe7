"""The attacks by content: names, annotations and texts that other programs would misunderstand.

Each function attacks, and checks what must hold besides the victim's jobs and the services' memory.
"""

import re

from tests.hostile.arena import ATTACKER, EVERYONE, OPERATOR, PREFIX, Arena, accepted, attackers_job, creation
from tests.hostile.victim import VICTIM, VICTIMS
from tests.support.api import Object
from tests.support.builders import a_notebook
from tests.support.cli import Cli
from tests.support.waiting import eventually

NAMES_OF_OTHERS = ("jupyter-victim", "keycloak-postgres-0", "redis-1")
"""The names of pods of other workloads: a notebook, and members of StatefulSets."""
RESERVED_NAMES = ["jupyter-*", "keycloak-postgres-*", "redis-*"]
"""The names that the installation reserves."""
COMMANDS_TO_ADDONS = {
    "iam.amazonaws.com/role": "admin",
    "k8s.v1.cni.cncf.io/networks": "storage-network",
    "container.apparmor.security.beta.kubernetes.io/main": "unconfined",
    "sidecar.istio.io/inject": "false",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": "0.0.0.0/0",
    "sidecar.istio.io/userVolume": '[{"name":"host","hostPath":{"path":"/"}}]',
    "sidecar.istio.io/proxyImage": "mallory.example.com/proxy",
    "prometheus.io/scrape": "true",
    "prometheus.io/port": "8000",
    "ad.datadoghq.com/main.checks": '{"http_check":{}}',
    "co.elastic.logs/enabled": "false",
    "fluentbit.io/exclude": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
    "primehub.io/fence": "forged",
    "primehub.io/attempt": "99",
    "primehub.io/usage": "forged",
}
"""Annotations by which programs in a cluster are told what to do with a pod, and PhJob's own."""
TERMINAL_CODES = "\x1b]0;owned\x07\x1b[31mred\x1b[0m\x9b2J\x08\r\u202eevil\u2066"
"""What changes the title of a terminal, its colours, its contents, and the order of its characters."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Everything of that kind, except tabs and line breaks."""


def take_names(arena: Arena) -> None:
    """Submit jobs with the names that other workloads give to their pods. These can still create them."""
    for name in NAMES_OF_OTHERS:
        arena.send([creation(attackers_job(name))])
    fence = f"{PREFIX}after-names"
    arena.api.create(attackers_job(fence, run_for="0.1s"))
    wait_for_phase(arena, fence, "Succeeded")
    for name in NAMES_OF_OTHERS:
        pod = arena.api.get("Pod", name)
        assert pod is None, f"no job may take the name {name}: {pod and pod['metadata'].get('labels')}"
        arena.api.create(a_notebook(name, group=VICTIMS, user=VICTIM, cpu="100m"))
        arena.api.delete("Pod", name, gracePeriodSeconds="0")
        arena.api.delete("PhJob", name)


def instruct_addons(arena: Arena) -> None:
    """Annotate a job with instructions to the programs of the cluster. Its pod has none of them."""
    name = f"{PREFIX}annotated"
    job = attackers_job(name)
    job["metadata"]["annotations"] |= COMMANDS_TO_ADDONS
    stored = accepted(arena.send([creation(job)]))
    if not stored:
        return  # The API server may refuse such annotations instead.
    wait_for_phase(arena, name, "Running")
    pod = arena.api.get("Pod", name)
    assert pod
    annotations = pod["metadata"]["annotations"]
    copied = {key: value for key, value in COMMANDS_TO_ADDONS.items() if annotations.get(key) == value}
    assert not copied, f"the pod has {copied}"
    assert annotations["dev.primehub.io/run-for"] == "1h", "an annotation of the setting must be copied"


def write_to_terminals(arena: Arena) -> None:
    """Write terminal codes into a title and into the last words of a failing job.

    The command line shows others no control character.
    """
    titled, failed = f"{PREFIX}titled", f"{PREFIX}failed"
    arena.send([creation(attackers_job(titled, displayName=TERMINAL_CODES))])
    assert accepted(arena.send([creation(attackers_job(failed))]))
    wait_for_phase(arena, failed, "Running")
    fail_pod(arena, failed, f"Traceback {TERMINAL_CODES}")
    status = wait_for_phase(arena, failed, "Failed")
    assert "Traceback" in status["message"], "the last words of the container must be in the message"
    for user in (VICTIM, OPERATOR):
        check_screens(arena.cli(user), failed)


def check_screens(cli: Cli, name: str) -> None:
    """Check that no command prints a control character, and that the job's message is shown."""
    commands = (
        ["list", "--all", "-o", "wide"],
        ["list", "--all", "-o", "json"],
        ["why", name],
        ["why", name, "-o", "yaml"],
        ["queue", "attackers"],
        ["top", "--once"],
    )
    for command in commands:
        done = cli(*command)
        shown = done.stdout + done.stderr
        found = CONTROL.findall(shown)
        assert not found, f"kubectl phjob {' '.join(command)} printed {found}"
    assert "Traceback" in cli("why", name).stdout, "the check must see the job's message"


def fail_pod(arena: Arena, name: str, message: str) -> None:
    """Let a job's container fail with these last words, as a kubelet would report it."""
    terminated = {"exitCode": 1, "reason": "Error", "message": message}
    terminated |= {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}
    container = {"name": "main", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
    status = {"phase": "Failed", "containerStatuses": [{**container, "state": {"terminated": terminated}}]}
    arena.api.merge_patch("Pod", name, {"status": status}, subresource="status")


def wait_for_phase(arena: Arena, name: str, phase: str) -> Object:
    """Wait until a job is in a phase. Returns its status."""

    def status() -> Object:
        job = arena.api.get("PhJob", name)
        found: Object = job["status"] if job else {}
        return found

    eventually(lambda: status().get("phase") == phase, f"job {name} is {phase}", diagnostics=status)
    return status()


def submit_to_everyone(arena: Arena) -> None:
    """Submit jobs to the group whose grants are for everyone, which has no quota. None of them gets a pod."""
    names = [f"{PREFIX}everyone-{n}" for n in range(5)]
    stored = accepted(arena.send(creation(attackers_job(name, group=EVERYONE)) for name in names))
    for name in stored:
        assert wait_for_phase(arena, name, "Failed")["reason"] == "InvalidSpec"
    assert not arena.etcd.count("Pod", f"{PREFIX}everyone-"), f"no job of {ATTACKER} may run in everyone"
