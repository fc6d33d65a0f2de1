#!/usr/bin/env bash
# Brings what the tests tagged "clients" need on top of real-deps: programs from Debian's packages where one is missing, and
# the clients of requirements.txt and package.json in .real/clients. Does nothing, at once, where all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need git git
need curl curl
need node nodejs
need npm npm
need javac default-jdk-headless
need php php-cli
need ruby ruby
need mcs mono-mcs
need mono mono-runtime
[[ -d /usr/lib/mono/gac/System.Runtime.Serialization ]] || missing+=(libmono-system-runtime-serialization4.0-cil)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "test-clients: install these first (names of Debian's packages): ${missing[*]}" >&2
    exit 1
  fi
  apt-get -qq update </dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi

to=.real/clients
want=$(cat testdata/clients/{requirements.txt,package.json} | sha256sum | cut -d' ' -f1)
[[ -f $to/stamp && $(<"$to/stamp") == "$want" ]] && exit
rm -rf "$to"
mkdir -p "$to"
python3 -m venv "$to/python"
"$to/python/bin/pip" install -q --disable-pip-version-check -r testdata/clients/requirements.txt </dev/null
cp testdata/clients/package.json "$to"
npm install --prefix "$to" --silent --no-audit --no-fund --no-package-lock </dev/null
echo "$want" >"$to/stamp"
