"""A self-signed certificate for 127.0.0.1, so that clients check TLS as they do against AWS."""

from __future__ import annotations

import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.cloud.place import Place

DAYS = 30


def make(place: Place) -> None:
    """Write key and certificate, unless a pair is there that is valid for another day."""
    if place.certificate.exists() and place.private_key.exists():
        known = x509.load_pem_x509_certificate(place.certificate.read_bytes())
        if known.not_valid_after_utc > dt.datetime.now(dt.UTC) + dt.timedelta(days=1):
            return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    place.certificate.parent.mkdir(parents=True, exist_ok=True)
    place.private_key.touch(mode=0o600)
    place.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    place.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
