"""The test that the API server enforces the identity policy: `python -m phjob_kube.identity_test`.

`helm test` runs it, with an account that has the rights of a submitter. It tries to act for another user,
and fails if it can. All requests are dry runs, so that it changes nothing. It uses the standard library
only, so that a defect of the product's own client cannot hide one of the cluster.
"""

import json
import os
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The folder with the token of the pod's account."""
OTHER_USER = "somebody-else-of-helm-test"
ENFORCED_WITHIN_SECONDS = 60.0
"""The time in which the API server enforces a policy that was just installed."""
REQUEST_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """The API server's answer to a request."""

    status: int
    body: Any

    @property
    def message(self) -> str:
        """Return the message of an unsuccessful answer."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Attempt:
    """A request that the policy has to refuse."""

    name: str
    answer: Answer
    policy: str

    @property
    def is_refused(self) -> bool:
        """Return whether the policy has refused it; another refusal proves nothing."""
        return (
            self.answer.status == 403 and f"ValidatingAdmissionPolicy '{self.policy}'" in self.answer.message
        )

    def describe(self) -> str:
        """Return the result in a line, with the remedy for a failure."""
        if self.is_refused:
            return f"ok      {self.name}: refused by the policy"
        if 200 <= self.answer.status < 300:
            remedy = f"kubectl get validatingadmissionpolicy,validatingadmissionpolicybinding {self.policy}"
            return f"FAILED  {self.name}: the API server permits it. See whether the policy exists: {remedy}"
        return f"FAILED  {self.name}: not tried, because of {self.answer.status}: {self.answer.message}"


class Cluster:
    """The API server, as the pod's account."""

    def __init__(self, url: str, account: Path) -> None:
        self._url = url
        self._token = (account / "token").read_text().strip()
        self._tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # As in `config.connect`.

    def request(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request, without any effect if it is a dry run."""
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = Request(  # noqa: S310 - always https
            f"{self._url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": content_type},
        )
        try:
            with urlopen(request, context=self._tls, timeout=REQUEST_TIMEOUT_SECONDS) as response:  # noqa: S310
                return Answer(response.status, json.load(response))
        except HTTPError as error:
            return Answer(error.code, json.load(error))


def attempts(cluster: Cluster, namespace: str, policy: str) -> Iterator[Attempt]:
    """Make each attempt. Those on a job of another user need one in the namespace."""
    jobs = f"/apis/primehub.io/v1alpha1/namespaces/{namespace}/phjobs"
    dry_run = "?dryRun=All"
    created = cluster.request("POST", jobs + dry_run, a_job(OTHER_USER))
    yield Attempt("submit a job of another user", created, policy)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    me = cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    own = a_job(me.body.get("status", {}).get("userInfo", {}).get("username", ""))
    own["metadata"]["finalizers"] = ["example.com/helm-test"]
    yield Attempt("set a finalizer", cluster.request("POST", jobs + dry_run, own), policy)
    for job in cluster.request("GET", f"{jobs}?limit=1").body.get("items", ()):
        path = f"{jobs}/{job['metadata']['name']}{dry_run}"
        change = {"spec": {"displayName": "helm test"}}
        yield Attempt("change a job of another user", cluster.request("PATCH", path, change), policy)
        yield Attempt("delete a job of another user", cluster.request("DELETE", path), policy)


def a_job(user: str) -> dict[str, Any]:
    """Return a job of this user, with a name that the API server makes."""
    names = {"userName": user, "groupName": "helm-test", "image": "helm-test", "instanceType": "helm-test"}
    return {
        "apiVersion": "primehub.io/v1alpha1",
        "kind": "PhJob",
        "metadata": {"generateName": "helm-test-"},
        "spec": {"command": "true", **names},
    }


def main(account: Path = ACCOUNT) -> int:
    """Make the attempts until all are refused, or the time is over. Returns 1 if one was not refused."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    cluster = Cluster(f"https://{f'[{host}]' if ':' in host else host}:{port}", account)
    until = time.monotonic() + float(os.environ.get("ENFORCED_WITHIN_SECONDS", ENFORCED_WITHIN_SECONDS))
    while True:
        made = list(attempts(cluster, os.environ["NAMESPACE"], os.environ["POLICY"]))
        is_enforced = all(attempt.is_refused for attempt in made)
        if is_enforced or time.monotonic() > until:
            break
        time.sleep(1)
    sys.stdout.write("".join(f"{attempt.describe()}\n" for attempt in made))
    return 0 if is_enforced else 1


if __name__ == "__main__":
    sys.exit(main(Path(os.environ.get("ACCOUNT_FOLDER", ACCOUNT))))
