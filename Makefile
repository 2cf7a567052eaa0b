# Cairn's targets. Plain `make` lists them.

GO      ?= go
ARGS    ?=
FUZZTIME ?= 10s

# What `cairn version` tells; the first is empty-handed where there is no git.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

TOOLS := internal/tools

# The modules of the repository, all in go.work. What is built for users is built
# by go.mod alone, and so are the tools, which are in modules outside go.work.
MODULES  := . bench e2e/faults e2e/page loadtest
TESTED   := ./... ./bench/... ./loadtest/... ./e2e/faults/lossy/...
PACKAGES := $(TESTED) ./e2e/faults/...
LINTED   := $(PACKAGES) ./e2e/page/...
ALONE    := GOWORK=off
TAGS     := e2eproxy,e2edeploy,e2epython,e2ecluster,e2eupgrade

# The map page's libraries, from npm: the binary holds them.
PAGE := query/page/lib/.filled

.DEFAULT_GOAL := help
.PHONY: help build run test bench compare faults soak upgrade-test e2e-proxy e2e-page e2e-python e2e-deploy e2e-three e2e-cluster schemathesis helm image docs docs-check release lint tidy fuzz clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | while IFS=@ read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

build: ## build bin/cairn, with the map page where npm is installed
	@sh query/page/fill.sh || echo "bin/cairn will have no map, and say so at /. Once npm can be had, make page fetches what is missing."
	$(ALONE) CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/cairn .

run: ## install PostGIS and npm if they are missing, build, and start every role (ARGS="--listen :8080" and so on)
	@command -v $(GO) >/dev/null || { echo "Cairn is built with Go 1.26 or later, and there is no $(GO) in PATH. Get it from https://go.dev/dl"; exit 1; }
	@# On a bare machine the packages take minutes, and so does the compiler: both at once.
	@$(ALONE) CGO_ENABLED=0 $(GO) list -export -deps -trimpath . >/dev/null 2>&1 & \
	sh $(TOOLS)/ensure.sh run || exit 1; \
	echo "Compiling; the first time takes minutes."; \
	wait
	@$(MAKE) --no-print-directory build
	@exec bin/cairn serve $(ARGS)

test: bin/nats ## run all tests with the race detector, against real PostGIS and a real stream
	@sh $(TOOLS)/ensure.sh test
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 20m $(TESTED)

bench: ## compare Cairn with a bare handler and with COPY, side by side
	@sh $(TOOLS)/ensure.sh bench
	@$(MAKE) --no-print-directory build
	$(GO) run ./bench $(ARGS)

compare: ## measure Cairn beside the tutorial's stack, an hour or so (ARGS="--level 5s --no-ramp --readme=" for a short try)
	@sh $(TOOLS)/ensure.sh run
	@$(MAKE) --no-print-directory build
	$(GO) run ./loadtest/baseline $(ARGS)

ROUNDS ?= 24
SEED   ?= 1

faults: ## kill, stop, cut, fill and damage for ROUNDS (24) rounds by SEED (1); nothing acknowledged may be lost
	@sh $(TOOLS)/ensure.sh test
	$(GO) test -count=1 -timeout 120m ./e2e/faults -v -args -rounds $(ROUNDS) -seed $(SEED)

DURATION ?= 20m

soak: ## writers, readers and streams beside attackers of each kind and restarts for DURATION (20m): what is held at the end is what was
	@sh $(TOOLS)/ensure.sh test
	$(GO) test -count=1 -timeout 120m ./e2e -v -run TestSoak -args -soak $(DURATION)

FROM ?= last

upgrade-test: ## fill the last release (or FROM, a revision) with data, start this version on it, compare every point
	@sh $(TOOLS)/ensure.sh test
	$(GO) test -tags e2eupgrade -count=1 -timeout 30m ./e2e -v -run TestUpgrade -args -upgrade-from $(FROM)

e2e-cluster: ## kill, stop, wipe and cut off the nodes of a cluster: each kind that CI has time for, or ROUNDS by SEED
	@sh $(TOOLS)/ensure.sh cluster
	$(GO) test -tags e2ecluster -count=1 -timeout 120m ./e2e/cluster -v -args -rounds $(if $(filter command line environment,$(origin ROUNDS)),$(ROUNDS),0) -seed $(SEED)

e2e-proxy: ## test the HAProxy and Nginx configurations in front of the real roles
	@sh $(TOOLS)/ensure.sh proxy
	$(GO) test -tags e2eproxy -count=1 -timeout 15m ./e2e/proxy

e2e-page: $(PAGE) e2e/page/node_modules ## look at the map page in a real browser
	@sh $(TOOLS)/ensure.sh browser
	$(GO) test -count=1 -timeout 15m ./e2e/page

e2e-python: bin/python ## read with pyarrow, geopandas, DuckDB and QGIS
	@sh $(TOOLS)/ensure.sh python
	$(GO) test -tags e2epython -count=1 -timeout 10m -run TestPython ./e2e

URL  ?= http://127.0.0.1:8080
TIME ?= 600

schemathesis: bin/python ## try the API of the server at URL, which is there to be filled with rubbish, for TIME (600) seconds
	bin/python/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5
	cd e2e/schemathesis && SCHEMATHESIS_HOOKS=hooks PYTHONPATH=. ../../bin/python/bin/st --config-file schemathesis.toml run '$(URL)/api' --checks all --max-time $(TIME) --continue-on-failure

bin/python: e2e/requirements.txt
	@sh $(TOOLS)/ensure.sh python
	python3 -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check -r e2e/requirements.txt
	@touch $@

e2e-deploy: bin/nats $(PAGE) ## start docker-compose.yml for real, with each proxy; scale, kill, back up, restore
	@sh $(TOOLS)/ensure.sh deploy
	$(GO) test -tags e2edeploy -count=1 -timeout 45m ./e2e/deploy

e2e-three: bin/nats $(PAGE) ## start the cluster of deploy/cluster for real; kill a container, wipe another
	@sh $(TOOLS)/ensure.sh deploy
	$(GO) test -tags e2edeploy -count=1 -timeout 45m ./e2e/deploy -v -run TestComposeCluster -args -three

helm: ## lint and render the Helm chart, and check its objects by the types of the Kubernetes API
	cd deploy/helm/test && $(ALONE) $(GO) test -count=1 ./...

image: ## build the container image cairn:VERSION
	docker build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t cairn:$(VERSION) .

release: $(PAGE) ## build dist/: archives, Debian packages, images, bills of materials, checksums
	@GO='$(GO)' sh $(TOOLS)/release.sh '$(VERSION)' '$(COMMIT)'

docs: ## build the documents as a site, into bin/site/html
	@sh $(TOOLS)/ensure.sh docs
	@$(MAKE) --no-print-directory build
	@sh docs/site/build.sh

docs-check: bin/nats ## run the documents' commands, follow their links, look up their settings (make test does, too)
	@sh $(TOOLS)/ensure.sh test
	$(GO) test -count=1 -run TestDocs ./e2e

lint: bin/staticcheck bin/govulncheck bin/othersystem ## check format, vet, staticcheck, macOS and known vulnerabilities
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	@for module in $(MODULES); do (cd $$module && $(ALONE) $(GO) list -deps -test -tags '$(TAGS)' ./... >/dev/null) || { echo "make tidy: $$module/go.mod lacks something"; exit 1; }; done
	$(GO) vet -tags '$(TAGS)' $(PACKAGES)
	bin/staticcheck -tags '$(TAGS)' $(PACKAGES)
	@# What a release has for macOS, by its types: compiling it would take minutes.
	export $(ALONE) CGO_ENABLED=0 GOOS=darwin GOARCH=arm64; bin/othersystem . $$($(GO) list -deps -f '{{with .Module}}{{if .Main}}{{$$.ImportPath}}{{end}}{{end}}' .)
	@sh $(TOOLS)/govulncheck.sh bin/govulncheck -tags '$(TAGS)' $(PACKAGES)

tidy: ## bring every module's go.mod and go.sum up to date with its imports
	@for module in $(MODULES); do (cd $$module && $(ALONE) $(GO) mod tidy) || exit 1; done

fuzz: ## run every fuzz target for FUZZTIME (10s) each
	@GO='$(GO)' FUZZTIME='$(FUZZTIME)' sh $(TOOLS)/fuzz.sh $(TESTED)

page: $(PAGE) ## fetch the map page's libraries from npm, which make build puts into the binary

$(PAGE): query/page/package-lock.json query/page/fill.sh
	@sh $(TOOLS)/ensure.sh page
	sh query/page/fill.sh
	@touch $@

e2e/page/node_modules: e2e/page/package-lock.json
	@sh $(TOOLS)/ensure.sh page
	cd e2e/page && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

clean: ## remove what was built; the data folder stays
	rm -rf bin

# The tools have modules of their own, so that what they need stays out of Cairn's.
bin/staticcheck: $(TOOLS)/go.mod $(TOOLS)/go.sum
	cd $(TOOLS) && $(ALONE) $(GO) build -o ../../$@ honnef.co/go/tools/cmd/staticcheck

bin/othersystem: $(TOOLS)/go.mod $(TOOLS)/go.sum $(TOOLS)/othersystem/main.go
	cd $(TOOLS) && $(ALONE) $(GO) build -o ../../$@ ./othersystem

bin/govulncheck: $(TOOLS)/go.mod $(TOOLS)/go.sum
	cd $(TOOLS) && $(ALONE) $(GO) build -o ../../$@ golang.org/x/vuln/cmd/govulncheck

bin/nats: $(TOOLS)/nats/go.mod $(TOOLS)/nats/go.sum
	cd $(TOOLS)/nats && $(ALONE) $(GO) build -o ../../../$@ github.com/nats-io/natscli/nats
