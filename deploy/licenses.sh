#!/usr/bin/env bash
# Writes the licences of everything that is linked into fanout. Fails if one is not in the list below.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-LICENSES.md}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
GOBIN=$work go install github.com/google/go-licenses@v1.6.0
printf '{{range .}}| %s | %s |\n{{end}}' '{{.Name}}' '{{.LicenseName}}' >"$work/template"

allowed=(Apache-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0 ISC MIT Unlicense) # permissive: at most, their notice must go along
for system in linux darwin; do # those of .goreleaser.yaml, which link different packages
  for arguments in "check --allowed_licenses=$(IFS=, && echo "${allowed[*]}")" "report --template=$work/template"; do
    # shellcheck disable=SC2086
    GOOS=$system CGO_ENABLED=0 "$work/go-licenses" $arguments --ignore=fanout ./cmd/fanout >>"$work/list" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  done
done

{
  echo '# Licences'
  echo
  echo 'What is linked into `fanout`, by package. `make licenses` writes this list from the code.'
  echo
  echo '| package | licence |'
  echo '| --- | --- |'
  grep '^|' "$work/list" | LC_ALL=C sort -u
} >"$work/LICENSES.md"
mv "$work/LICENSES.md" "$out"
