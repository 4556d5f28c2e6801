"""Certificates for tests, made with the openssl tool, and whether the tests run over TLS (III_TLS=1)."""

import atexit
import functools
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile

# Every node of the tests gets a certificate for both of its ports, if its test does not say otherwise.
TLS = os.environ.get("III_TLS", "") not in ("", "0")

# Ports of nodes that speak TLS: a client by hand looks here.
secure_ports = set()

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*arguments, **options):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **options)


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder, name="test authority"):
        self.folder = pathlib.Path(folder)
        self.cert, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        subject = f"/CN={name}"
        openssl("req", "-x509", *KEY, "-keyout", self.key, "-out", self.cert, "-days", 30, "-subj", subject)

    def sign(self, name, days=30, alternatives="DNS:localhost,IP:127.0.0.1,IP:::1", key=KEY):
        """A pair of files for `name`: the certificate and its key."""
        cert, private, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        openssl("req", *key, "-keyout", private, "-out", request, "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternatives}\n")
        signing = ["-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-extfile", extensions]
        openssl("x509", "-req", "-in", request, "-out", cert, "-days", days, *signing)
        return cert, private


@functools.cache
def authority():
    """The one that signs for nodes of a run."""
    folder = tempfile.mkdtemp(prefix="iii-certificates-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Authority(folder)
    if TLS:  # Clients that are programs of their own trust it too.
        os.environ["SSL_CERT_FILE"] = os.environ["NODE_EXTRA_CA_CERTS"] = str(made.cert)
    return made


@functools.cache
def pair():
    return authority().sign("node")


def settings(**more):
    """The `tls` map of a port."""
    cert, key = pair()
    return {"cert_file": str(cert), "key_file": str(key), **more}


def client(ca=None, cert=None, **limits):
    """A context of a client that takes only servers of the authority."""
    context = ssl.create_default_context(cafile=str(ca or authority().cert))
    if cert is not None:
        context.load_cert_chain(*map(str, cert))
    for name, value in limits.items():
        setattr(context, name, value)
    return context


@functools.cache
def any_client():
    return client()
