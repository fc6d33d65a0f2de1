#!/usr/bin/env bash
# Runs every fuzz target of the module, one after another, for FUZZTIME each (default 10s). The first find ends it: Go has
# then written the input to testdata/fuzz of the package, from where every `go test` runs it again.
# (Finding a smaller input of the same coverage gets a second at a time: the default of a minute would be all that is done.)
# With arguments it runs those targets only: testdata/fuzz.sh event:FuzzDecode
set -euo pipefail
cd "$(dirname "$0")/.."

targets() {
  grep -rn --include='*_test.go' --exclude-dir='.?*' -oE '^func Fuzz[A-Za-z0-9_]+' . |
    sed -E 's#^\./(.*)/[^/]*:[0-9]+:func (.*)#\1:\2#' | sort
}

all=${*:-$(targets)}
[[ -n $all ]] || { echo 'no fuzz target found' >&2; exit 1; }
for target in $all; do
  began=$SECONDS
  tries=3
  until out=$(go test "./${target%%:*}" -run '^$' -fuzz "^${target##*:}\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 1s 2>&1); do
    # On a busy machine a worker may be asked to stop in the middle of an input, which Go takes for a failure of the target.
    if ((--tries == 0)) || grep -q 'Failing input written' <<<"$out" || ! grep -q '^ *context deadline exceeded' <<<"$out"; then
      echo "$out"
      echo "$target: FOUND something after $((SECONDS - began)) s" >&2
      exit 1
    fi
  done
  echo "$target: $(grep -E '^fuzz: elapsed' <<<"$out" | tail -1 | sed -E 's/^fuzz: elapsed: //')"
done
