"""Takes webhooks whose signature is right, and answers 401 to others.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_… python3 receiver.py 127.0.0.1:9000

For a whpk_ key (signatures v1a, Ed25519), which the library does not know, `pip install cryptography`.
"""
import base64
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

secret = os.environ.get("WEBHOOK_SECRET")
if not secret:
    print("set WEBHOOK_SECRET to the subscription's secret", file=sys.stderr)
    sys.exit(2)

from standardwebhooks import Webhook


def v1a(secret):
    """A verifier that raises, as the library's does, where no signature is right."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(secret.removeprefix("whpk_")))

    def verify(body, headers):
        timestamp = headers["webhook-timestamp"]
        if abs(time.time() - int(timestamp)) > 300:
            raise ValueError("the timestamp is too far from now")
        for signature in headers["webhook-signature"].split(" "):
            version, _, text = signature.partition(",")
            try:
                if version == "v1a":
                    return key.verify(base64.b64decode(text), f"{headers['webhook-id']}.{timestamp}.".encode() + body)
            except InvalidSignature:
                pass
        raise ValueError("no signature matches")

    return verify


verify = v1a(secret) if secret.startswith("whpk_") else Webhook(secret).verify


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))  # the raw bytes: what is signed
        try:
            verify(body, {name.lower(): value for name, value in self.headers.items()})
            status = 204
            print(self.headers["webhook-id"], body.decode(), flush=True)
        except Exception as problem:  # whatever is wrong with a request: it is not to be believed
            status = 401
            print("refused:", problem, flush=True)
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000").partition(":")
ThreadingHTTPServer((host, int(port)), Receiver).serve_forever()
