#!/bin/sh
# Writes events, one JSON object a line, to a source topic with kcat. It fails if one of them was not acknowledged.
#
#   producer.sh TOPIC KEY < events.jsonl
#
# KAFKA (127.0.0.1:9092) names brokers; COMPRESSION (none) is gzip, snappy, lz4 or zstd; TIMEOUT_MS (30000) is how long an
# acknowledgement may take; TRACEPARENT goes on to the receiver. Any POSIX shell runs it.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: producer.sh TOPIC KEY < events.jsonl" >&2
  exit 2
fi
exec kcat -P -b "${KAFKA:-127.0.0.1:9092}" -t "$1" -k "$2" ${TRACEPARENT:+-H "traceparent=$TRACEPARENT"} \
  -X acks=all -X enable.idempotence=true -X "message.timeout.ms=${TIMEOUT_MS:-30000}" -X "compression.codec=${COMPRESSION:-none}"
