# Python 3.9 or newer, no dependency. body is the raw request body: bytes, before any JSON parsing.
import base64
import hashlib
import hmac
import time


def verify(secret, headers, body, tolerance=300):
    try:
        message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        if abs(time.time() - int(timestamp)) > tolerance:
            return False
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{message_id}.{timestamp}.".encode() + body
        want = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(s.encode(), want.encode()) for s in headers["webhook-signature"].split(" "))
    except (KeyError, ValueError):
        return False
