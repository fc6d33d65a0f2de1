"""Tells customers what became of their endpoints. It reads the values of fanout.events, one a line, and prints a message for each
that a customer should know of; put your mailer in place of print.

    kcat -b 127.0.0.1:9092 -G mailer fanout.events -q -u | python3 endpoint-events.py

A lane is each instance's own: several tell that the same endpoint is parked. So an endpoint counts as failing from the first
one that says so, until each that did has said that it is back. A message may come twice all the same.
"""
import datetime
import json
import re
import sys


def when(milliseconds):
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def messages(lines):
    failing = {}  # endpoint -> the instances that hold its deliveries back
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        kind, endpoint = event.get("kind"), f"{event.get('account')}/{event.get('subscription')}"
        instances = failing.setdefault(endpoint, set())
        if kind == "parked":
            if not instances:
                since = re.search(r"since (\S+?),", event["detail"])
                yield f"{endpoint}: your endpoint has failed since {since.group(1) if since else when(event['time'])} ({event['detail']})"
            instances.add(event.get("instance"))
        elif kind == "opened":
            instances.discard(event.get("instance"))
            if not instances:
                yield f"{endpoint}: your endpoint is back; what it missed is being delivered"
        elif kind == "gone":
            yield f"{endpoint}: your endpoint answered 410 Gone at {when(event['time'])}; nothing is sent until you change it"
        elif kind == "dead":
            yield f"{endpoint}: events could not be delivered ({event['detail']})"
        elif kind == "invalid":
            yield f"{endpoint}: the configuration of your endpoint is not valid ({event['detail']})"
        if not instances:
            failing.pop(endpoint, None)


for message in messages(sys.stdin):
    print(message, flush=True)
