#!/bin/sh
# Writes one subscription, or removes it, as a config sync job does: HSET or HDEL, then XADD.
#
#   sync-job.sh ACCOUNT ID '{"url":"https://example.com/hooks","events":["EMAIL_OPEN"]}'
#   sync-job.sh ACCOUNT ID            # removes it
#
# REDIS_HOST (127.0.0.1) and REDIS_PORT (6379) say where Redis is, or one node of a Cluster; REDISCLI_AUTH is the password,
# if it wants one, and REDIS_USER whose. Any POSIX shell runs it.
set -eu
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  echo "usage: sync-job.sh ACCOUNT ID [JSON]        without JSON, the subscription is removed" >&2
  exit 2
fi
account=$1 id=$2 json=${3-}

redis() {
  answer=$(redis-cli -c -h "${REDIS_HOST:-127.0.0.1}" -p "${REDIS_PORT:-6379}" ${REDIS_USER:+--user "$REDIS_USER"} "$@") || exit 1
  case $answer in
    [0-9]*) ;; # a count, or the entry's id
    *) echo "$1: $answer" >&2; exit 1 ;;
  esac
}

if [ -n "$json" ]; then
  redis HSET "fanout:account:$account" "$id" "$json"
else
  redis HDEL "fanout:account:$account" "$id"
fi
redis XADD fanout:changes MAXLEN '~' 100000 '*' account "$account" # says whose subscriptions have changed
