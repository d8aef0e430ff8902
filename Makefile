# make help lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.NOTPARALLEL:

GOLANGCI_LINT := v2.15.0
GOVULNCHECK   := v1.9.0
TOOLS         := $(CURDIR)/.tools/bin

# Where Go's own installer puts it, for a shell that was not told.
export PATH := $(PATH):/usr/local/go/bin

# Go finds its caches through HOME, which a bare CI runner may not set.
ifeq ($(strip $(HOME)),)
export HOME := $(shell getent passwd "$$(id -u)" | cut -d: -f6)
endif

# Git refuses to read a checkout that another user owns, and Go would refuse to
# build there, only because it cannot stamp the version.
ifneq ($(shell git -C '$(CURDIR)' rev-parse HEAD >/dev/null 2>&1 && echo ok),ok)
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
endif

# As root, PostgreSQL runs as user postgres, who must reach what is made here even
# where the caller's umask is private.
REACHABLE := umask 022;

# Where make run keeps its data. User postgres must be able to reach it: as root in
# a checkout below /root, name another folder.
LOCAL_DIR ?= .local

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: deps
deps: ## install what is missing to run and test: PostgreSQL 15, a C compiler (Go is only checked)
	@scripts/install-deps.sh

.PHONY: build
build: ## build bin/xpd and bin/pgctl; static, so that they run on any host
	$(REACHABLE) CGO_ENABLED=0 go build -o bin/ ./cmd/...

.PHONY: run
run: deps build ## run a three-node cluster on loopback, data in .local/ or LOCAL_DIR=folder; Ctrl-C stops it
	@$(REACHABLE) exec bin/xpd local --dir '$(LOCAL_DIR)'

.PHONY: demo
demo: deps build ## break a loaded cluster and count what was lost; RATE=300 SEED=1 to choose
	@$(REACHABLE) exec bin/xpd demo $(if $(RATE),--rate=$(RATE)) $(if $(SEED),--seed=$(SEED))

.PHONY: test
test: deps ## vet, then every test with the race detector, on real PostgreSQL
	go vet -tags=e2e ./...
	$(REACHABLE) CGO_ENABLED=1 go test -tags=e2e -race -count=1 -timeout 25m $$(go list -tags=e2e ./... | grep -v /simulation)
	$(REACHABLE) CGO_ENABLED=1 go test -tags=e2e -race -count=1 -timeout 25m -p 1 ./simulation/... # shoppers give up where others take the processors
	go test -count=1 -run '_exhaustive$$' ./failover # single-threaded, and many times slower with the detector

.PHONY: test-short
test-short: deps ## the tests that are quick, without the race detector
	$(REACHABLE) go test -tags=e2e -short -timeout 10m ./...

.PHONY: simulate
simulate: ## play seeded histories of cluster control in a model; SEEDS=100000 FIRST=0 to choose
	GOGC=400 go test ./failover/failovertest -run '^TestHistories$$' -count=1 -timeout 0 -v -seeds=$(or $(SEEDS),100000) -first=$(or $(FIRST),0)

# internal/faults sums up what the tests print; all of it is in bin/faults/test.json.
.PHONY: faults
faults: deps ## break real processes and, as root, real hosts under load: one line per fault; logs in bin/faults/
	@rm -rf bin/faults && mkdir -p bin/faults && go build -o bin/faults/report ./internal/faults
	@$(REACHABLE) { XPD_FAULTS=all XPD_FAULT_LOGS='$(CURDIR)/bin/faults' go test -json -count=1 -p 1 -timeout 60m \
		-run '$(or $(RUN),^TestF|^TestSecured|^TestStranger)' ./simulation ./simulation/netns 2>&1 || true; } | tee bin/faults/test.json | bin/faults/report

.PHONY: mutants
mutants: deps ## break each safety rule on purpose and show which test notices; RUN=pattern to choose
	$(REACHABLE) go run ./internal/mutants -run '$(RUN)'

.PHONY: lint
lint: ## lint and check the formatting; builds the linter on first use
	@scripts/install-tool.sh '$(TOOLS)' github.com/golangci/golangci-lint/v2/cmd/golangci-lint $(GOLANGCI_LINT)
	'$(TOOLS)'/golangci-lint run
	'$(TOOLS)'/golangci-lint fmt --diff

.PHONY: fmt
fmt: ## format all Go files
	@scripts/install-tool.sh '$(TOOLS)' github.com/golangci/golangci-lint/v2/cmd/golangci-lint $(GOLANGCI_LINT)
	'$(TOOLS)'/golangci-lint fmt

.PHONY: vuln
vuln: ## report known vulnerabilities that the code can reach; needs the network
	@scripts/install-tool.sh '$(TOOLS)' golang.org/x/vuln/cmd/govulncheck $(GOVULNCHECK)
	'$(TOOLS)'/govulncheck ./...

.PHONY: bench
bench: deps build ## measure pauses and latencies of a whole cluster, then run the Go benchmarks; ROUNDS=5 to choose
	@$(REACHABLE) bin/xpd bench $(if $(ROUNDS),--rounds=$(ROUNDS))
	@$(REACHABLE) { grep -rlE --include='*_test.go' --exclude-dir='.?*' '^func Benchmark' . || true; } | \
		xargs -r dirname | sort -u | xargs -r go test -run '^$$' -bench . -benchmem

.PHONY: bench-failover
bench-failover: deps build ## as root, measure how long writes pause in 20 rounds of each loss; ROUNDS=, ONLY=F8, SOAK=30m to choose
	@$(REACHABLE) bin/xpd bench-failover $(if $(ROUNDS),--rounds=$(ROUNDS)) $(if $(ONLY),--only='$(ONLY)') $(if $(SOAK),--soak=$(SOAK))

.PHONY: clean
clean: ## remove what build made; keeps .local/ (data) and .tools/
	rm -rf bin
