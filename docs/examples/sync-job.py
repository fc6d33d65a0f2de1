"""Writes one subscription, or removes it, as a config sync job does: HSET or HDEL, then XADD.

    python3 sync-job.py ACCOUNT ID '{"url":"https://example.com/hooks","events":["EMAIL_OPEN"]}'
    python3 sync-job.py ACCOUNT ID            # removes it

REDIS_HOST (127.0.0.1) and REDIS_PORT (6379) say where Redis is, or one node of a Cluster; REDISCLI_AUTH is the password, if
it wants one, and REDIS_USER (default) whose. It needs nothing but Python. With redis-py, the calls are r.hset(key, id, json)
and r.xadd("fanout:changes", {"account": account}, maxlen=100000).
"""
import os
import socket
import sys


def ask(stream, *words):
    out = b"*%d\r\n" % len(words)
    for word in words:
        data = word.encode()
        out += b"$%d\r\n%s\r\n" % (len(data), data)
    stream.write(out)
    stream.flush()
    answer = stream.readline()
    if answer.startswith(b"$"):  # XADD answers with the entry's id
        answer = stream.readline()
    return answer.decode().strip() or "-the connection was closed"


def command(*words):
    address = os.environ.get("REDIS_HOST", "127.0.0.1"), os.environ.get("REDIS_PORT", "6379")
    before = []
    if password := os.environ.get("REDISCLI_AUTH"):
        before = [("AUTH", os.environ.get("REDIS_USER", "default"), password)]
    for _ in range(5):
        with socket.create_connection(address, timeout=5) as connection, connection.makefile("rwb") as stream:
            answer = [ask(stream, *step) for step in [*before, words]][-1]
        redirect = answer.split()
        if redirect[0] not in ("-MOVED", "-ASK"):
            break
        # On a Cluster, another node has that key: for good, or (ASK) for this one command.
        host, _, port = redirect[2].rpartition(":")
        address = host or address[0], port
        before = [step for step in before if step != ("ASKING",)] + [("ASKING",)] * (redirect[0] == "-ASK")
    if answer.startswith("-"):
        raise SystemExit(f"{words[0]}: {answer}")


def main(account, subscription, json=None):
    key = "fanout:account:" + account
    if json:
        command("HSET", key, subscription, json)
    else:
        command("HDEL", key, subscription)
    # Says whose subscriptions have changed.
    command("XADD", "fanout:changes", "MAXLEN", "~", "100000", "*", "account", account)


if not 3 <= len(sys.argv) <= 4:
    print("usage: sync-job.py ACCOUNT ID [JSON]        without JSON, the subscription is removed", file=sys.stderr)
    sys.exit(2)
try:
    main(*sys.argv[1:])
except OSError as problem:
    sys.exit(f"redis: {problem}")
