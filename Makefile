# What a developer does here. README says what a user does.
VERSION  ?= $(shell hack/version)
COMMIT   := $(shell git rev-parse HEAD 2>/dev/null)
# The registry that the image of this version is pushed to; empty where it is not.
REGISTRY ?=
STAMP    := -X wfgen.dev/internal/version
LDFLAGS  := -s -w $(STAMP).version=$(VERSION) $(STAMP).commit=$(COMMIT) $(STAMP).registry=$(REGISTRY)
TOOLS    := $(CURDIR)/bin/tools
GOLANGCI := $(TOOLS)/golangci-lint
GOLANGCI_VERSION := v2.15.0

.PHONY: fuzz mutants all images image-archive load-image release test-release e2e test test-guidellm compare-drivers test-vllm test-loadtools test-browser picture race lint vulnerabilities generate bench argolint clean

all: bin/wfgen bin/step

# go build knows best what is up to date
.PHONY: bin/wfgen bin/step
bin/wfgen bin/step: bin/%:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*

# the image that the workflows run; its name is the one that wfgen writes. Without
# an engine it becomes an archive, which every engine and containerd can load.
IMAGE ?= $(or $(REGISTRY),wfgen.dev)/step:$(VERSION)
BUILD := -version $(VERSION) -commit '$(COMMIT)' -registry '$(REGISTRY)' -image $(IMAGE)
images:
	@if docker version >/dev/null 2>&1; then set -x; \
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --build-arg REGISTRY=$(REGISTRY) -t $(IMAGE) .; \
	else $(MAKE) --no-print-directory image-archive; fi

image-archive:
	cd hack/release && go run . image $(BUILD) -output $(CURDIR)/dist/step-$(VERSION).tar

# the image of step of this version into the nodes of kubectl's cluster (kind, k3d, minikube)
load-image: image-archive
	hack/load-image dist/step-$(VERSION).tar

# everything that a version gives away, in dist/VERSION; docs/release.md
release:
	cd hack/release && go run . all $(BUILD) -time "$$(git log -1 --format=%ct)" -output $(CURDIR)/dist/$(VERSION)

# the Dockerfile, the image and the release; -short leaves the release out
test-release:
	cd hack/release/dockerfile && go vet . && go test .
	cd hack/release && go vet . && go test . $(RELEASE_FLAGS)

test:
	go test ./...

# one slip of the hand after another at the seam of wfgen and step, each of which a test
# must notice; MUTANT=retry tries those whose name holds that
MUTANT ?=
mutants:
	go run ./hack/mutants -only '$(MUTANT)'

race:
	go test -race -short ./...

# every reader of foreign bytes and every estimate, one after another; what is found is
# kept as testdata of its package
FUZZTIME ?= 60s
fuzz:
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' internal | xargs -n1 dirname | sort -u | while read -r p; do \
	for f in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$p/*_test.go | cut -c6-); do \
	echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$$p </dev/null; done; done

# step bench with the real guidellm, as installed from PyPI, against step simulate;
# GUIDELLM_FLAGS=-update keeps the reports as testdata of internal/point/report
GUIDELLM ?= 0.3.1 0.5.4 0.6.1 0.7.3 0.8.1
test-guidellm:
	hack/guidellm/install.sh $(GUIDELLM)
	go test -tags guidellm -timeout 40m -count 1 -parallel 3 -run 'Real/^($(shell echo $(GUIDELLM) | tr ' ' '|'))$$' ./internal/point/driver/guidellm $(GUIDELLM_FLAGS)

# reports, looked at in a browser under the headers of Argo's server
test-browser:
	hack/chromium/install.sh
	go test -count 1 -run Browser -v ./internal/estimate/page -large

# the picture of a report, made from the demo
picture: all
	hack/chromium/install.sh
	hack/picture/make.sh docs/report.png

# the table of docs/drivers.md: errors and CPU of every driver
compare-drivers:
	hack/guidellm/install.sh $(GUIDELLM)
	go test -tags guidellm -timeout 40m -run '^$$' -bench 'Drivers/^($(shell echo native $(GUIDELLM) | tr ' ' '|'))$$' -benchtime 1x ./internal/point/driver/guidellm

# the real vLLM, its CPU build as installed from PyPI, and a tiny model
test-vllm:
	hack/vllm/install.sh
	hack/guidellm/install.sh 0.7.3
	go test -tags vllm -count 1 -timeout 15m -v ./internal/tests/vllm

# the table of docs/capacity.md: what is claimed of a server, what it attains, and what
# guidellm says at even intervals
.PHONY: compare-capacity
compare-capacity:
	hack/vllm/install.sh
	hack/guidellm/install.sh 0.6.1 0.7.3
	WFGEN_CAPACITY=1 go test -tags vllm -count 1 -timeout 40m -run 'TestCapacity$$' -v ./internal/tests/vllm

# the table of docs/precision.md in real time: what a precision and the fixed default take
# and say, of step simulate and of the real vLLM; twenty minutes on an idle machine
.PHONY: compare-precision
compare-precision:
	hack/vllm/install.sh
	hack/guidellm/install.sh 0.7.3
	WFGEN_COMPARE_PRECISION=1 go test -tags vllm -count 1 -timeout 60m -run 'TestPrecision$$' -v ./internal/tests/vllm

# what other load generators leave, as installed from PyPI, against step simulate; and
# consumers' own code over what step render writes
test-loadtools:
	hack/loadtools/install.sh
	go test -tags loadtools -count 1 -timeout 30m -v ./internal/tests/loadtools

# llama.cpp's server, nginx, proxies that hold answers back, and vLLM in settings that
# change what its numbers mean; ENGINES=TestLlama is one of them
.PHONY: test-engines
ENGINES ?=
test-engines:
	go test -tags engines -count 1 -timeout 30m -run '$(ENGINES)' -v ./internal/tests/engines

# the whole way on the cluster of KUBECONFIG, all tests or those of one name; what it
# needs: go doc ./internal/tests/e2e
E2E ?=
E2E_PARALLEL ?= 6
e2e: GUIDELLM = 0.3.1
e2e:
	E2E_GUIDELLM=$(GUIDELLM) E2E_VLLM=$(VLLM) go test -tags e2e -count 1 -timeout 60m -parallel $(E2E_PARALLEL) -run '$(E2E)' -v ./internal/tests/e2e

# the same linter everywhere: where it cannot be installed, lint fails; and actionlint
# over the forge's workflows
lint: $(GOLANGCI)
	gofmt -l . | (! grep .)
	go vet ./... && go vet -tags 'e2e engines guidellm vllm loadtools' ./internal/...
	$(GOLANGCI) run ./...
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# known vulnerabilities in what is linked and called; says so where the database of
# vuln.go.dev cannot be reached, and fails on what it finds alone
VULN := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
vulnerabilities:
	@out=$$($(VULN) ./... 2>&1); rc=$$?; echo "$$out"; \
	case "$$out" in *'fetching vulnerabilities'*) echo 'vuln.go.dev cannot be reached: not checked';; *) exit $$rc;; esac

# examples/, hack/ manifests and JSON Schemas are made from the code
generate:
	go generate ./...

bench:
	go test -run '^$$' -bench . -benchtime 1x ./...

# Argo's own linter over the examples, and Argo Events' code over their triggers; modules
# of their own, since they are large
argolint:
	cd hack/argolint && go test ./... && go run . ../../examples
	cd hack/argoevents && go vet ./... && go test ./...

$(GOLANGCI):
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

clean:
	rm -rf bin dist
