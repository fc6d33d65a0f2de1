#!/usr/bin/env bash
# Brings the servers of the tests tagged "wire": programs from Debian's packages where one is missing, and what pom.xml and
# requirements.txt name in .real/wire. Does nothing, at once, where all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
need() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2"); }
need node nodejs
need caddy caddy
need nginx nginx-light
need javac default-jdk-headless
need mvn maven
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "test-wire: install these first (names of Debian's packages): ${missing[*]}" >&2
    exit 1
  fi
  # Debian starts what it installs; the tests start their own.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  apt-get -qq update </dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi

to=.real/wire
want=$(cat testdata/wire/{requirements.txt,pom.xml} | sha256sum | cut -d' ' -f1)
[[ -f $to/stamp && $(<"$to/stamp") == "$want" ]] && exit
rm -rf "$to"
mkdir -p "$to"
python3 -m venv "$to/python"
"$to/python/bin/pip" install -q --disable-pip-version-check -r testdata/wire/requirements.txt </dev/null
mvn -q -B -f testdata/wire/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/$to/lib" </dev/null
echo "$want" >"$to/stamp"
