#!/usr/bin/env bash
# Builds the release that HEAD is tagged as, into bin/dist, and publishes nothing:
#
#   fanout_VERSION_OS_ARCH.tar.gz          the program, with completions, systemd unit, alerts, dashboard, runbooks, licences
#   fanout_VERSION_OS_ARCH.cdx.json        its SBOM (CycloneDX); fanout_VERSION_image_… is the image's
#   fanout_VERSION_image_linux_ARCH.tar.gz the context of `docker build`; its program is built without the demo
#   fanout-VERSION.tgz                     the Helm chart
#   checksums.txt                          SHA-256 of all of these
#
# Without a tag on HEAD it builds a snapshot, named after the next version. It needs Go, git, and GNU tar and coreutils. Its
# tools are Go programs, which it builds in bin/release-tools. With the modules in Go's cache it needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."

goreleaser=github.com/goreleaser/goreleaser/v2@v2.16.0
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
helm=helm.sh/helm/v3/cmd/helm@v3.22.0

tools=$PWD/bin/release-tools
mkdir -p "$tools"
export PATH=$tools:$PATH
for tool in "$goreleaser" "$sbom" "$helm"; do GOBIN=$tools go install "$tool"; done

# The image trusts the authorities that this machine trusts.
mkdir -p bin/image
cp /etc/ssl/certs/ca-certificates.crt bin/image/ 2>/dev/null || cp /etc/ssl/cert.pem bin/image/ca-certificates.crt

flags=(--clean)
git describe --tags --exact-match >/dev/null 2>&1 || flags+=(--snapshot)
goreleaser release "${flags[@]}"

# The chart has the version of the release, and helm's own checks; but helm packs it with the time of day.
version=$(sed -n 's/.*"version":"\([^"]*\)".*/\1/p' bin/dist/metadata.json)
commit=$(git log -1 --format=%ct)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
helm package deploy/helm/fanout --version "$version" --app-version "$version" --destination "$work" >/dev/null 2>"$work/log" || {
  cat "$work/log" >&2
  exit 1
}
tar -xzmf "$work/fanout-$version.tgz" -C "$work"
tar -c --sort=name --mtime="@$commit" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$work" fanout | gzip -9n >"bin/dist/fanout-$version.tgz"

cd bin/dist
sha256sum fanout*.tar.gz fanout*.tgz fanout*.cdx.json >checksums.txt
echo "bin/dist holds fanout $version:"
cat checksums.txt
