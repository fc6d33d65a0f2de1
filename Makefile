# Everything that is done with this checkout, one target each: `make help`.

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
COMPOSE  := github.com/compose-spec/compose-go/v2/cmd@v2.16.2
# The packages that have tests with the build tag `real`.
REAL     = $(shell grep -rl --include='*_test.go' --exclude-dir=proof '^//go:build real' . | xargs -r -n1 dirname | sort -u)
# bench and chaos are a module of their own: the product needs nothing that only they need.
PROOF    := cmd/proof

.PHONY: build test test-race test-proof test-real test-clients test-wire test-collector test-browser test-api test-deploy fuzz docs pictures release licenses vuln bench chaos sim mutate demo lint fmt cover real-deps ci clean help

build: ## compile bin/fanout
	go build -trimpath -o bin/fanout ./cmd/fanout

test: ## every test that needs only Go; much of its time is waiting, so packages overlap
	go test -p 5 ./...

test-race: ## the same under the race detector
	go test -race ./...

test-proof: ## the tests of bench and chaos themselves
	go -C $(PROOF) test ./...

test-real: real-deps ## the tests on real Kafka and Redis, one package at a time
	go test -count=1 -tags real -p 1 -timeout 25m -run "$$(testdata/tagged.sh real)" $(REAL)
	go -C $(PROOF) test -count=1 -tags real -p 1 -timeout 10m ./...

test-clients: real-deps ## producers, sync jobs and receivers in other languages, and the pages' commands in a fresh clone
	@testdata/clients/fetch.sh
	go test -count=1 -tags clients -timeout 10m ./cmd/internal/clients

test-wire: real-deps ## servers that are not ours read what is sent: nginx, Node, uvicorn, Tomcat, Undertow, Jetty, Caddy, Go
	@testdata/wire/fetch.sh
	go test -count=1 -tags wire -timeout 10m -v -run Wire ./cmd/internal/wire

test-collector: ## the traces, read back by a real OpenTelemetry Collector, whose build takes minutes the first time
	go test -count=1 -tags real,collector -timeout 20m -run Collector ./cmd/fanout

test-browser: ## the dashboard in Chromium with axe, and the verify samples; screenshots go to .browser
	@admin/browser-deps.sh
	go test -count=1 -tags browser -timeout 15m -run "$$(testdata/tagged.sh browser)" ./admin/

test-api: ## schemathesis against the admin API of a running demo (EXAMPLES=200)
	admin/schemathesis.sh

fuzz: ## every fuzz target in turn (FUZZTIME=10s)
	@testdata/fuzz.sh

docs: ## write the references that are generated from the code
	go test ./docs ./cmd/fanout -run 'Reference|Capacity' -update

pictures: ## the README's pictures and the demo's output in it, from the demo; needs Chromium, tmux, pngquant and optipng
	docs/pictures/make.py

test-deploy: ## chart, alerts, dashboard, systemd unit, Compose file, release and licences, with the tools that read them
	deploy/test.sh

release: ## build the release that HEAD is tagged as: archives, SBOMs, image context, chart, checksums, in bin/dist
	deploy/release.sh

licenses: ## write LICENSES.md, and check that each licence is permissive
	deploy/licenses.sh

# Not in CI, which may have nothing but package registries: it fetches its database from vuln.go.dev.
vuln: ## known vulnerabilities in what is called (needs the network)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

bench: real-deps ## what fanout costs beside a bare HTTP loop, on real Kafka (ARGS='-pairs 1', ARGS='latency')
	go -C $(PROOF) run ./bench $(ARGS)

chaos: real-deps ## break everything around fanout on real Kafka and Redis, and count what is lost (ARGS='-short', ARGS='-scenario kill -seed 7')
	go -C $(PROOF) run ./chaos $(ARGS)

sim: ## fanout in virtual time: traffic, faults and the real retry schedule, from seeds (ARGS='-seeds 50', ARGS='-seeds 1 -first 7 -trace')
	go test -count=1 -timeout 0 -v -run TestSeeds ./cmd/internal/sim -args $(or $(ARGS),-seeds 5)

mutate: ## small mistakes on the paths where a delivery could be lost, one at a time: does a test see each (ARGS='-run write')
	go run ./cmd/internal/mutate $(ARGS)

demo: ## fanout and everything that it needs, in one process
	go run ./cmd/fanout demo

lint: ## gofmt, vet, golangci-lint, the compose file
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run make fmt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags real,browser,clients,collector,wire ./...
	go vet -tags nodemo ./cmd/fanout
	go build -tags nodemo -o /dev/null ./cmd/fanout
	go -C $(PROOF) vet -tags real ./...
	go run $(GOLANGCI) run --allow-parallel-runners
	cd $(PROOF) && go run $(GOLANGCI) run --allow-parallel-runners
	go run $(COMPOSE) -no-interpolation docker-compose.yml >/dev/null

fmt: ## format the code
	go run $(GOLANGCI) fmt

cover: ## the tests' coverage, as bin/cover.html
	@mkdir -p bin
	go test -coverpkg=./... -coverprofile=bin/cover.out ./...
	go tool cover -func=bin/cover.out | tail -1
	go tool cover -html=bin/cover.out -o bin/cover.html

real-deps: ## install what test-real, bench and chaos need
	@testdata/kafka/fetch.sh

ci: ## what .ci/run does
	.ci/run

clean: ## remove what was built and fetched
	rm -rf bin .real .bench

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
