# Everything a developer does here, by name. `make` alone prints the list.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

NODE := .build/release/iii-stream
INTEROP := Tests/Interop
FUZZ_SECONDS ?= 60
export PYTHON2

# Each sanitizer changes every object file, so each has a build folder of its own. Undefined behaviour
# traps: the trap needs no run-time library, which the Swift tool chain does not ship for C.
UNDEFINED := -Xcc -fsanitize=undefined -Xcc -fsanitize-trap=undefined
ADDRESS_FLAGS := --scratch-path .build/address --sanitize=address $(UNDEFINED)
# Tests that bound the memory of a node would count what is kept back after it was freed.
ADDRESS_OPTIONS := ASAN_OPTIONS=quarantine_size_mb=16
THREAD_FLAGS := --scratch-path .build/thread --sanitize=thread
# It waits for a second at each exit otherwise.
THREAD_OPTIONS := TSAN_OPTIONS="suppressions=$(CURDIR)/.ci/thread-suppressions atexit_sleep_ms=20"

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: packages test-packages
packages:
	@.ci/packages build
test-packages:
	@.ci/packages build test

.PHONY: build
build: packages ## Build the node, optimised
	swift build -c release --product iii-stream

.PHONY: run
run: build ## Build the node and start it with iii-config.yaml (ports 3112 and 49134 of 127.0.0.1, items in ./data)
	$(NODE) --config iii-config.yaml

.PHONY: test
test: test-packages ## Build everything, run all tests and play the fuzz corpus
	swift build --build-tests
	swift test --skip-build
	swift build -c release --product iii-stream
	swift build -c release --product iii-stream-bench
	@$(MAKE) --no-print-directory interop interop-epoll interop-tls
	FUZZ_SECONDS=0 .ci/fuzz

.PHONY: interop
interop: # The Python part of `test`, for a node that is already built
	"$$(.ci/venv test)" -m pytest $(INTEROP) $(PYTEST_FLAGS)

# What meets the kernel most: sockets, files, limits. `check` runs the others on it too.
EPOLL := resilience/test_half_open.py resilience/test_hostile.py resilience/test_lifecycle.py resilience/test_limits.py \
	resilience/test_slow_reader.py protocol/test_exactly_once.py protocol/test_large_messages.py protocol/test_subscriptions.py \
	storage/test_disk.py storage/test_durability.py
.PHONY: interop-epoll interop-epoll-rest
interop-epoll: # A part of it on epoll
	cd $(INTEROP) && III_IO=epoll "$$(../../.ci/venv test)" -m pytest $(EPOLL) $(PYTEST_FLAGS)
interop-epoll-rest:
	III_IO=epoll "$$(.ci/venv test)" -m pytest $(INTEROP) $(EPOLL:%=--ignore=$(INTEROP)/%) $(PYTEST_FLAGS)

# What TLS may change: the order and the ends of what is sent, large messages, slow readers, limits of connections.
TLS := protocol/test_messages.py protocol/test_replay.py protocol/test_subscriptions.py protocol/test_large_messages.py \
	resilience/test_slow_reader.py access/test_authentication.py
.PHONY: interop-tls interop-tls-rest
interop-tls: # A part of it over TLS
	cd $(INTEROP) && III_TLS=1 "$$(../../.ci/venv test)" -m pytest $(TLS) $(PYTEST_FLAGS)
interop-tls-rest:
	III_TLS=1 "$$(.ci/venv test)" -m pytest $(INTEROP) $(TLS:%=--ignore=$(INTEROP)/%) $(PYTEST_FLAGS)

.PHONY: conformance
conformance: build test-packages ## Recorded answers and vectors; public suites with PYTHON2=, JSON_SUITE=
	"$$(.ci/venv test)" -m pytest $(INTEROP)/protocol/test_replay.py $(INTEROP)/protocol/test_operations.py $(PYTEST_FLAGS)
	.ci/conformance
ifdef JSON_SUITE
	JSON_SUITE="$(JSON_SUITE)" swift test --filter CStreamJSONTests.SuiteTests
else
	@echo 'conformance: JSONTestSuite is skipped: JSON_SUITE does not name its test_parsing folder'
endif

.PHONY: kills
kills: build test-packages ## Kill a node 500 times in the middle of its work, and thousands of simulated power cuts
	III_KILL_ROUNDS=$${III_KILL_ROUNDS:-500} "$$(.ci/venv test)" -m pytest -s $(INTEROP)/storage/test_durability.py $(PYTEST_FLAGS)
	III_STORE_SEEDS=$${III_STORE_SEEDS:-3000} swift test --filter CStreamStoreTests

.PHONY: seeds
seeds: test-packages ## Plant faults in the core, have the simulated node find each, and look at 10,000 seeds of it as it is
	python3 Tests/Support/planted_faults.py

.PHONY: check
check: lint test interop-epoll-rest sanitize ## Everything: lint, formats, tests, the fuzz corpus, tests under sanitizers

# All tests are Swift Testing's. The runner of XCTest leaks a little, which fails a run: it stays out.
.PHONY: sanitize
sanitize: test-packages ## Run the tests under the address, undefined and thread sanitizers
	swift test $(ADDRESS_FLAGS) --disable-xctest
	$(THREAD_OPTIONS) swift test $(THREAD_FLAGS) --disable-xctest
	swift build $(ADDRESS_FLAGS) --product iii-stream
	swift build $(ADDRESS_FLAGS) --product iii-stream-bench
	$(ADDRESS_OPTIONS) III_BENCH=.build/address/debug/iii-stream-bench III_NODE=.build/address/debug/iii-stream "$$(.ci/venv test)" -m pytest $(INTEROP) $(PYTEST_FLAGS)
	swift build $(THREAD_FLAGS) --product iii-stream
	$(THREAD_OPTIONS) III_NODE=.build/thread/debug/iii-stream "$$(.ci/venv test)" -m pytest $(INTEROP) $(PYTEST_FLAGS)
	$(THREAD_OPTIONS) III_NODE=$(CURDIR)/.build/thread/debug/iii-stream $(MAKE) --no-print-directory interop-epoll

.PHONY: load-generator
load-generator: packages ## Build iii-stream-bench, optimised
	swift build -c release --product iii-stream-bench

.PHONY: bench
bench: build load-generator ## Measure the node and its peers in turn, small (minutes)
	.ci/packages bench
	python3 Benchmarks/Peers/pairs.py --pairs 3 --seconds 1 --only fan-1,fan-16,fan-64,set-1,set-16,handshake
	python3 Benchmarks/storms.py --small
	python3 Benchmarks/isolation.py --small
	python3 Benchmarks/memory.py --small

.PHONY: bench-full
bench-full: build load-generator ## Measure everything of Benchmarks/METHOD.md (about an hour)
	.ci/packages bench
	python3 Benchmarks/Peers/pairs.py --pairs 9 --seconds 3
	python3 Benchmarks/Peers/redis_hset.py --pairs 5
	python3 Benchmarks/Durability/durable.py
	python3 Benchmarks/Durability/compaction.py
	python3 Benchmarks/Durability/recovery.py
	python3 Benchmarks/storms.py
	python3 Benchmarks/isolation.py
	python3 Benchmarks/memory.py
	python3 Benchmarks/idle.py

.PHONY: lint
lint: packages ## Check formats, dependencies and the rules of the house
	.ci/lint

.PHONY: architecture
architecture: packages ## Draw the rooms of the C core, and who knows whom, into ARCHITECTURE.md
	python3 Tests/Support/architecture.py

.PHONY: format
format: ## Format all C and Swift files in place
	.ci/format

.PHONY: fuzz
fuzz: packages ## Fuzz each parser for FUZZ_SECONDS (60); 0 plays the corpus only
	FUZZ_SECONDS=$(FUZZ_SECONDS) .ci/fuzz

.PHONY: clean
clean: ## Remove what was built; the Python environments in the cache folder stay
	rm -rf .build
	find Tests Benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
