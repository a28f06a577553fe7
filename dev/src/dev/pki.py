"""The keys and certificates of one control plane: a CA, a serving certificate and a client certificate.

All servers listen on 127.0.0.1 and share the serving certificate. Users have tokens (`access`).
"""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = dt.timedelta(days=3650)
CLOCK_SKEW = dt.timedelta(days=1)
SERVED_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Pki:
    """The files of the keys and certificates in one folder. They exist after `make`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = folder / "ca.crt"
        self.server_cert, self.server_key = folder / "server.crt", folder / "server.key"
        self.client_cert, self.client_key = folder / "kubelet-client.crt", folder / "kubelet-client.key"
        self.service_account_key = folder / "service-account.key"
        self.service_account_public = folder / "service-account.pub"

    def make(self) -> None:
        """Create all files, unless the last one exists, because then all of them do."""
        if self.service_account_public.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("phjob-dev-ca")
        ca = _builder(ca_name, ca_name, ca_key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        _write_cert(self.ca, ca.sign(ca_key, hashes.SHA256()))

        served = x509.SubjectAlternativeName(
            [
                *(x509.DNSName(name) for name in SERVED_NAMES),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
        )
        key = _write_key(self.server_key)
        server = _builder(_name("localhost"), ca_name, key.public_key()).add_extension(served, critical=False)
        server = server.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        _write_cert(self.server_cert, server.sign(ca_key, hashes.SHA256()))

        key = _write_key(self.client_key)
        client = _builder(_name("kube-apiserver-kubelet-client"), ca_name, key.public_key())
        client = client.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        _write_cert(self.client_cert, client.sign(ca_key, hashes.SHA256()))

        key = _write_key(self.service_account_key)
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        self.service_account_public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, public)
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(pem)
    return key


def _write_cert(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
