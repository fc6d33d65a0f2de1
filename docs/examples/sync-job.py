"""Writes one subscription, or removes it, as a config sync job does: HSET or HDEL, then XADD.

    python3 sync-job.py ACCOUNT ID '{"url":"https://example.com/hooks","events":["EMAIL_OPEN"]}'
    python3 sync-job.py ACCOUNT ID            # removes it

REDIS_HOST (127.0.0.1) and REDIS_PORT (6379) say where Redis is. It needs nothing but Python. With redis-py, the calls are
r.hset(key, id, json) and r.xadd("fanout:changes", {"account": account}, maxlen=100000).
"""
import os
import socket
import sys


def command(stream, *words):
    out = b"*%d\r\n" % len(words)
    for word in words:
        data = word.encode()
        out += b"$%d\r\n%s\r\n" % (len(data), data)
    stream.write(out)
    stream.flush()
    answer = stream.readline()
    if answer.startswith(b"$"):  # XADD answers with the entry's id
        answer = stream.readline()
    if not answer or answer.startswith(b"-"):
        raise SystemExit(f"{words[0]}: {answer.decode().strip() or 'the connection was closed'}")


def main(account, subscription, json=None):
    address = os.environ.get("REDIS_HOST", "127.0.0.1"), int(os.environ.get("REDIS_PORT", "6379"))
    with socket.create_connection(address, timeout=5) as connection, connection.makefile("rwb") as stream:
        key = "fanout:account:" + account
        if json:
            command(stream, "HSET", key, subscription, json)
        else:
            command(stream, "HDEL", key, subscription)
        # Says whose subscriptions have changed.
        command(stream, "XADD", "fanout:changes", "MAXLEN", "~", "100000", "*", "account", account)


main(*sys.argv[1:])
