"""Attackers: accounts with rights and tokens of their own, in a release's namespace."""

import json
import secrets
import subprocess

from tests.support.chart import Release
from tests.support.cluster import Kubectl, kubectl_for
from tests.support.waiting import eventually

Done = subprocess.CompletedProcess[str]


class Attacker:
    """Somebody with an account and a token of their own."""

    def __init__(self, release: Release, name: str) -> None:
        """Create the account, without any rights."""
        self.release = release
        self.user = release.account_user(name)
        release.kubectl("-n", release.namespace, "create", "serviceaccount", name)
        self._kubectl: Kubectl = kubectl_for(release.kubeconfig_of(name))

    def __call__(self, *args: str, input: object = None) -> Done:  # noqa: A002 - subprocess's
        """Run kubectl in the namespace of jobs."""
        text = None if input is None else json.dumps(input)
        return self._kubectl("-n", self.release.namespace, *args, input=text)

    def merge(self, kind: str, name: str, change: object, *options: str) -> Done:
        """Change an object by a merge patch."""
        return self("patch", kind, name, "--type=merge", "-p", json.dumps(change), *options)


def grant(release: Release, user: str, verbs: str, *resources: str) -> None:
    """Grant a user verbs on resources of the namespace, and wait until the API server knows."""
    name = f"grant-{secrets.token_hex(4)}"
    role = ("create", "role", name, f"--verb={verbs}", f"--resource={','.join(resources)}")
    binding = ("create", "rolebinding", name, f"--role={name}", f"--user={user}")
    for command in (role, binding):
        done = release.kubectl("-n", release.namespace, *command)
        assert done.returncode == 0, done.stderr
    verb, resource = verbs.partition(",")[0].replace("*", "get"), resources[0]
    can = ("-n", release.namespace, "auth", "can-i", verb, resource, f"--as={user}")
    eventually(lambda: release.kubectl(*can).returncode == 0, f"{user} may {verb} {resource}")


def assert_refused(done: Done, *words: str) -> None:
    """Check that the request failed for exactly this reason."""
    assert done.returncode != 0, f"must be refused: {done.stdout}"
    for text in words:
        assert text in done.stderr
