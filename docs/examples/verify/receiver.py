"""Takes webhooks whose signature is right, each event once, and answers 401 to others. A batch is verified once.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_… python3 receiver.py 127.0.0.1:9000

For a whpk_ key (signatures v1a, Ed25519), which the library does not know, `pip install cryptography`.
"""
import base64
import json
import os
import sys
import threading
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


seen, lock = set(), threading.Lock()  # of ids; yours is a table, written in the transaction of your own work


def take(body, id):
    """Works off the events of a request that was verified: of one event, or a batch with an id of its own in each."""
    parsed = json.loads(body)
    for event in parsed if isinstance(parsed, list) else [{**parsed, "id": id}]:
        with lock:
            if event["id"] not in seen:  # else it came before, alone or in another batch
                seen.add(event["id"])
                print(event["id"], json.dumps(event, ensure_ascii=False), flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))  # the raw bytes: what is signed
        try:
            verify(body, {name.lower(): value for name, value in self.headers.items()})
            status = 204
        except Exception as problem:  # whatever is wrong with a request: it is not to be believed
            status = 401
            print("refused:", problem, flush=True)
        if status == 204:
            take(body, self.headers["webhook-id"])
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000").partition(":")
ThreadingHTTPServer((host, int(port)), Receiver).serve_forever()
