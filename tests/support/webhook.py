"""An admission webhook on the loopback interface, which denies requests as its author has chosen."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.cluster import Kubectl

from dev.pki import Pki

NAME = "quota.example.com"
"""The name of the webhook, which the API server quotes."""


class DenyingWebhook:
    """The status and the message with which the webhook denies. Both can be changed at any time."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message

    def review(self, review: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a review."""
        status = {"code": self.status, "message": self.message}
        response = {"uid": review["request"]["uid"], "allowed": False, "status": status}
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


@contextmanager
def denying(
    kubectl: Kubectl,
    folder: Path,
    webhook: DenyingWebhook,
    rule: dict[str, Any],
    selectors: dict[str, Any],
    *,
    name: str,
) -> Iterator[None]:
    """Register the webhook for the requests of a rule, and serve it while the context lasts.

    `selectors` are those of the webhook: `namespaceSelector`, `objectSelector`. `name` is that of the
    configuration.
    """
    pki = Pki(folder / "webhook")
    pki.make()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(webhook))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.server_cert, pki.server_key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": NAME,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "clientConfig": {
                    "url": f"https://127.0.0.1:{server.server_address[1]}/review",
                    "caBundle": base64.b64encode(pki.ca.read_bytes()).decode(),
                },
                "rules": [{"apiVersions": ["*"], "scope": "*", **rule}],
                **selectors,
            }
        ],
    }
    try:
        done = kubectl("create", "-f", "-", input=json.dumps(configuration))
        assert done.returncode == 0, done.stderr
        yield
    finally:
        kubectl("delete", "validatingwebhookconfiguration", name, "--ignore-not-found")
        server.shutdown()
        serving.join()
        server.server_close()


def _handler(webhook: DenyingWebhook) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps(webhook.review(review)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Write nothing to the output of the tests."""

    return Handler
