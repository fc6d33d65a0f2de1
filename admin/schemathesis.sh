#!/usr/bin/env bash
# Tries the admin API of a running demo against its OpenAPI document. Needs python3 with venv; fetches schemathesis from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.browser/schemathesis
[[ -x $venv/bin/schemathesis ]] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q schemathesis==4.32.5; }
go build -o bin/fanout ./cmd/fanout
bin/fanout demo --rate 5 >.browser/demo.log 2>&1 &
demo=$!
trap 'kill $demo 2>/dev/null && wait $demo || true' EXIT
base=
for _ in $(seq 100); do
  base=$(sed -n 's/^dashboard: //p' .browser/demo.log)
  [[ -n $base ]] && curl -sf "$base/readyz" >/dev/null && break
  sleep 0.2
done
# tail is a stream that ends with its client; a test of this package reads it.
"$venv/bin/schemathesis" --config-file admin/schemathesis.toml run "$base/api/v1/openapi.json" --exclude-operation-id tail --max-examples "${EXAMPLES:-40}" --seed 8 \
  --workers 1 --request-timeout 20 --no-color "$@"
