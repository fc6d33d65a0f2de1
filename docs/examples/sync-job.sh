#!/usr/bin/env bash
# Writes one subscription, or removes it, as a config sync job does: HSET or HDEL, then XADD.
#
#   sync-job.sh ACCOUNT ID '{"url":"https://example.com/hooks","events":["EMAIL_OPEN"]}'
#   sync-job.sh ACCOUNT ID            # removes it
#
# REDIS_HOST (127.0.0.1) and REDIS_PORT (6379) say where Redis is, or one node of a Cluster; REDISCLI_AUTH is the password,
# if it wants one, and REDIS_USER whose.
set -euo pipefail
account=$1 id=$2 json=${3-}

redis() {
  local answer
  answer=$(redis-cli -c -h "${REDIS_HOST:-127.0.0.1}" -p "${REDIS_PORT:-6379}" ${REDIS_USER:+--user "$REDIS_USER"} "$@")
  [[ $answer == [0-9]* ]] || { echo "$1: $answer" >&2; exit 1; } # a count, or the entry's id; else an error
}

if [[ -n $json ]]; then
  redis HSET "fanout:account:$account" "$id" "$json"
else
  redis HDEL "fanout:account:$account" "$id"
fi
redis XADD fanout:changes MAXLEN '~' 100000 '*' account "$account" # says whose subscriptions have changed
