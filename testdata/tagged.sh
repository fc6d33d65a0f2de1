#!/bin/sh
# Prints a pattern of the tests that only the build tag $1 adds, for `go test -run`: the others have been run without it.
cd "$(dirname "$0")/.." || exit 1
names=$(grep -rl --include='*_test.go' --exclude-dir=proof "^//go:build $1" . |
  xargs sed -n 's/^func \(Test[A-Z][A-Za-z0-9_]*\)(t .*/\1/p' | sort -u | paste -sd '|')
[ -n "$names" ] || { echo "no test has the tag $1" >&2; exit 1; }
echo "^($names)\$"
