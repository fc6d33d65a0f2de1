#!/usr/bin/env bash
# Installs what the tests with the build tag `browser` need, where it is missing: names of Debian's packages.
set -euo pipefail
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
command -v python3 >/dev/null || missing+=(python3)
command -v javac >/dev/null || missing+=(default-jdk-headless)
command -v php >/dev/null || missing+=(php-cli)
command -v ruby >/dev/null || missing+=(ruby)
command -v mcs >/dev/null && command -v mono >/dev/null || missing+=(mono-mcs mono-runtime)
((${#missing[@]} == 0)) && exit
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "install first (names of Debian's packages): ${missing[*]}" >&2
  exit 1
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
