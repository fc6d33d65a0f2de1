#!/usr/bin/env bash
# Brings what the tests tagged "real", the bench and the chaos run need onto a bare machine: programs from Debian's
# packages where one is missing, and Apache Kafka's jars in .real/kafka/lib. Does nothing, at once, where all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

lib=.real/kafka/lib
stamp=.real/kafka/stamp # the checksum of the pom.xml that filled lib: another version is fetched anew
want=$(sha256sum testdata/kafka/pom.xml | cut -d' ' -f1)
jars() { [[ -f $stamp && $(<"$stamp") == "$want" ]] && compgen -G "$lib/kafka_*.jar" >/dev/null; }

missing=()
need() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2"); }
need kcat kcat
need redis-server redis-server
need nginx nginx-light
need java default-jre-headless
jars || need mvn maven

if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "real-deps: install these first (names of Debian's packages): ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # Debian starts what it installs; the tests start their own.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  apt-get -qq update </dev/null
  apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi

if ! jars; then
  mkdir -p .real/kafka
  fresh=$(mktemp -d .real/kafka/lib.XXXXXX)
  mvn -q -B -f testdata/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/$fresh" </dev/null
  rm -rf "$lib"
  chmod 755 "$fresh"
  mv "$fresh" "$lib"
  echo "$want" >"$stamp"
fi
