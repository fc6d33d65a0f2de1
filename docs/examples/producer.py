"""Writes events, one JSON object a line, to a source topic. It fails if one of them was not acknowledged.

    pip install confluent-kafka
    python3 producer.py TOPIC KEY < events.jsonl

KAFKA (127.0.0.1:9092) names brokers; COMPRESSION (none) is gzip, snappy, lz4 or zstd; TIMEOUT_MS (30000) is how long an
acknowledgement may take; TRACEPARENT goes on to the receiver. With TRANSACTIONAL_ID all lines are delivered, or none.
"""
import json
import os
import sys

if len(sys.argv) != 3:
    print("usage: producer.py TOPIC KEY < events.jsonl", file=sys.stderr)
    sys.exit(2)

from confluent_kafka import KafkaException, Producer


def main(topic, key):
    env = os.environ
    settings = {
        "bootstrap.servers": env.get("KAFKA", "127.0.0.1:9092"),
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": env.get("COMPRESSION", "none"),
        "delivery.timeout.ms": int(env.get("TIMEOUT_MS", "30000")),
    }
    transactional = env.get("TRANSACTIONAL_ID")
    if transactional:
        settings |= {"transactional.id": transactional, "transaction.timeout.ms": settings["delivery.timeout.ms"]}
    headers = [("traceparent", env["TRACEPARENT"])] if env.get("TRACEPARENT") else []
    failed = []

    def report(error, message):
        if error:
            failed.append(f"{message.topic()}: {error}")
        else:
            print(f"{message.topic()}/{message.partition()}/{message.offset()}")  # what `fanout explain` takes

    producer = Producer(settings)
    if transactional:
        producer.init_transactions(30)
        producer.begin_transaction()
    try:
        for line in sys.stdin:
            if not isinstance(json.loads(line), dict):
                raise ValueError("an event is a JSON object")
            producer.produce(topic, line.strip().encode(), key.encode(), headers=headers, on_delivery=report)
            producer.poll(0)  # calls report for what was answered meanwhile
        producer.flush()  # returns when each is acknowledged or given up, within TIMEOUT_MS
        if failed:
            raise ValueError("; ".join(failed))
        if transactional:
            producer.commit_transaction()
    except (ValueError, KafkaException) as problem:
        if transactional:
            producer.abort_transaction()
        else:
            producer.flush()
        raise SystemExit(f"not everything was written: {problem}")


main(*sys.argv[1:])
