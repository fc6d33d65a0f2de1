#!/usr/bin/env bash
# Checks what is in deploy/, .goreleaser.yaml and docker-compose.yml with the tools that will read them, and installs those
# where they are missing: Debian's packages, a Python environment and Go programs in .real/deploy.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

helm_module=helm.sh/helm/v3/cmd/helm@v3.22.0
kubeconform=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
compose=github.com/compose-spec/compose-go/v2/cmd@v2.16.2
keda=github.com/kedacore/keda/v2@v2.21.0                               # for the definition of ScaledObject
operator=github.com/prometheus-operator/prometheus-operator@v0.85.0    # of ServiceMonitor and PrometheusRule
schemas=kubernetes-validate==1.37.0                                    # ships the schemas of Kubernetes
kubernetes="1.27.0 1.37.0"                                             # the oldest that the chart takes, and the newest

here=.real/deploy
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$here/bin"
say() { printf -- '--- %s\n' "$*"; }
# The chart's alerts and dashboard are links to the files beside it, which helm follows and mentions each time.
helm() {
  local code=0
  "$GOBIN/helm" "$@" 2>"$work/said" || code=$?
  grep -v 'found symbolic link' "$work/said" >&2 || :
  return $code
}
refused() { ! "$@" >"$work/refused" 2>&1 || { echo "not refused: $*" >&2; return 1; }; }

# --- what it needs
missing=()
command -v systemd-analyze >/dev/null || missing+=(systemd)
[[ -x $here/python/bin/python ]] || python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
promtool=$(command -v promtool || echo "$here/prometheus/usr/bin/promtool")
[[ -x $promtool ]] || missing+=(prometheus)
if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "test-deploy: install these first (names of Debian's packages): ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  for package in "${missing[@]}"; do
    if [[ $package == prometheus ]]; then # one program of it, and no server that starts by itself
      (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download prometheus)
      mkdir -p "$here/prometheus"
      dpkg-deb -x "$work"/prometheus_*.deb "$here/prometheus"
    else
      apt-get -qq install -y --no-install-recommends "$package" >/dev/null
    fi
  done
fi
python=$here/python/bin/python
[[ -x $python ]] || python3 -m venv "$here/python"
"$here/python/bin/pip" install -q --disable-pip-version-check "$schemas"
export GOBIN=$PWD/$here/bin
go install "$helm_module"
go install "$kubeconform"
folder() { go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p'; }
crds=(
  "$(folder "$keda")"/config/crd/bases/keda.sh_scaledobjects.yaml
  "$(folder "$operator")"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml
)

# --- the checks
say prometheus
"$promtool" check rules deploy/prometheus/alerts.yaml
"$promtool" check config --syntax-only deploy/prometheus/prometheus.yml
"$promtool" test rules deploy/prometheus/alerts_test.yaml

say grafana: every query is one
"$python" - "$work/board.yaml" <<'PY'
import json, sys, yaml
variables = {"$__rate_interval": "5m", "$job": "fanout", "$instance": ".*"}
rules = []
for panel in json.load(open("deploy/grafana/fanout.json"))["panels"]:
    for target in panel.get("targets", []):
        query = target["expr"]
        for name, value in variables.items():
            query = query.replace(name, value)
        assert "$" not in query, query
        rules.append({"record": f"board:panel_{panel['id']}_{target['refId']}", "expr": query})
yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}, open(sys.argv[1], "w"))
PY
"$promtool" check rules --lint=none "$work/board.yaml"

say helm
chart=deploy/helm/fanout
sed -n '/^```yaml$/,/^```$/p' docs/kubernetes.md | sed '/^```/d' >"$work/page.yaml" # the values that docs/kubernetes.md shows
for version in $kubernetes; do
  "$python" deploy/schemas.py "$work/schemas-$version" "$version" "${crds[@]}"
  mkdir -p "$work/rendered-$version"
  for values in "$chart"/ci/*.yaml "$work/page.yaml"; do
    helm lint --quiet --strict --kube-version "$version" -f "$values" "$chart"
    helm template fanout "$chart" --namespace events --kube-version "$version" -f "$values" >"$work/rendered-$version/$(basename "$values")"
  done
  echo "Kubernetes $version:"
  "$GOBIN/kubeconform" -strict -summary -schema-location "$work/schemas-$version/{{.ResourceKind}}{{.KindSuffix}}.json" "$work/rendered-$version"
done
template=(helm template fanout "$chart" --kube-version "${kubernetes##* }")
peers=(--set 'networkPolicy.ingressFrom[0].ipBlock.cidr=10.0.0.0/8,networkPolicy.dependencies[0].ipBlock.cidr=10.0.0.0/8')
required=(--set image.repository=registry.example/fanout,secret.name=x "${peers[@]}")
refused "${template[@]}" --set secret.name=x "${peers[@]}"          # no image
grep -q 'image.repository: no registry has an image of fanout' "$work/refused"
refused "${template[@]}" --set image.repository=x "${peers[@]}"     # no token
grep -q 'kubectl create secret generic fanout' "$work/refused"
rule() { # one of the two rules says nobody, which would be everybody
  refused "${template[@]}" --set "image.repository=x,secret.name=x,networkPolicy.$2[0].ipBlock.cidr=10.0.0.0/8"
  grep -q "networkPolicy.$1: say" "$work/refused"
}
rule ingressFrom dependencies
rule dependencies ingressFrom
"${template[@]}" --set image.repository=x,secret.name=x,networkPolicy.enabled=false >/dev/null
refused "${template[@]}" "${required[@]}" --set autoscaling.hpa.enabled=true,autoscaling.keda.enabled=true # two autoscalers
refused "${template[@]}" "${required[@]}" --set config.shutdown_timeout=60s                                # behind the pod's back
refused "${template[@]}" "${required[@]}" --set replica=3                                                  # no such value
"${template[@]}" "${required[@]}" >/dev/null
RENDERED=$work/rendered-${kubernetes##* } go test -count=1 ./deploy/

say systemd
go build -trimpath -o bin/fanout ./cmd/fanout
sed "s#^ExecStart=/usr/bin/fanout#ExecStart=$PWD/bin/fanout#" deploy/systemd/fanout.service >"$work/fanout.service"
systemd-analyze verify "$work/fanout.service"
systemd-analyze security --offline=true --threshold=20 deploy/systemd/fanout.service | tail -1

say compose
go run "$compose" -no-interpolation docker-compose.yml >/dev/null

say licences
deploy/licenses.sh "$work/LICENSES.md"
diff LICENSES.md "$work/LICENSES.md" || { echo "dependencies have changed: make licenses" >&2; exit 1; }

# A release of HEAD, made twice in different folders, for one architecture so that it takes minutes and not more.
say release
release() {
  git clone -q . "$1"
  sed -i 's/goarch: \[amd64, arm64\]/goarch: [amd64]/' "$1/.goreleaser.yaml"
  (
    cd "$1"
    export GIT_AUTHOR_DATE=2026-01-02T03:04:05Z GIT_COMMITTER_DATE=2026-01-02T03:04:05Z
    git -c user.name=test -c user.email=test@example.com commit -qam "one architecture"
    git tag v0.0.1
    deploy/release.sh
  ) >"$work/release.log" 2>&1 || { cat "$work/release.log" >&2; return 1; }
}
release "$work/one"
release "$work/two"
diff "$work/one/bin/dist/checksums.txt" "$work/two/bin/dist/checksums.txt" || { echo "two builds of one commit differ" >&2; exit 1; }
(cd "$work/one/bin/dist" && sha256sum --check --quiet checksums.txt && ls fanout*.* && tar -xzf fanout_0.0.1_linux_amd64.tar.gz)
"$work/one/bin/dist/fanout_0.0.1_linux_amd64/fanout" version | tee "$work/version"
grep -q '^fanout 0\.0\.1 ' "$work/version"
"$python" - "$work/one/bin/dist" <<'PY'
import json, pathlib, re, sys, tarfile
dist = pathlib.Path(sys.argv[1])
demo = {"github.com/twmb/franz-go/pkg/kfake", "github.com/alicebob/miniredis/v2"}  # which images are without
for kind in "linux", "image_linux":
    bom = json.loads((dist / f"fanout_0.0.1_{kind}_amd64.cdx.json").read_text())
    names = {component["name"] for component in bom["components"]}
    assert bom["bomFormat"] == "CycloneDX" and {"github.com/segmentio/kafka-go", "github.com/redis/go-redis/v9", "std"} <= names, names
    assert names & demo == (demo if kind == "linux" else set()), (kind, names & demo)
with tarfile.open(dist / "fanout_0.0.1_image_linux_amd64.tar.gz") as context:  # what the Dockerfile copies is there
    files = context.getnames()
    for source in re.findall(r"^COPY (?:--\S+ )*(\S+) ", context.extractfile("Dockerfile").read().decode(), re.M):
        assert any(name == source or name.startswith(source + "/") for name in files), source
for archive in dist.glob("*.t*gz"):  # one time, one owner
    with tarfile.open(archive) as files:
        assert {(f.mtime, f.uid, f.gid) for f in files} == {(1767323045, 0, 0)}, archive
PY
helm template fanout "$work/one/bin/dist/fanout-0.0.1.tgz" --kube-version "${kubernetes##* }" "${required[@]}" | grep 'image: registry.example/fanout:0.0.1'
