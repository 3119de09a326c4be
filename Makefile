# Every target works from a fresh clone that has only Python >= 3.11 and make.

ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
endif

PIP_INSTALL := -m pip install -q --disable-pip-version-check

# The version that generates: its code carries protobuf 6.31.1, the lower bound in setup.cfg.
GRPCIO_TOOLS := grpcio-tools==1.75.1
WIRE_PROTOS := $(wildcard proto/aelf_p2p/wire/*.proto)
FOREIGN_PROTOS := $(wildcard tests/foreign/*.proto tests/foreign/aelf/*.proto)

.PHONY: help demo faults cycles ends soak mutants test test-newest test-lowest test-purerpc test-purerpc-newest test-purerpc-lowest lint types fuzz fuzz-at-random fuzz-briefly bench bench-rivals proto check-proto clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed ## run a network of seven nodes on this machine; DEMO="--help" lists options
	.venv/bin/aelf-p2p devnet $(DEMO)

test: ## run all tests, on the newest and on the lowest dependencies at the same time
	$(MAKE) --no-print-directory -j2 --output-sync=target test-newest test-lowest
	$(MAKE) --no-print-directory -j2 --output-sync=target test-purerpc

test-newest: .venv/installed-test ## run them on the newest dependencies; core has to be covered
	.venv/bin/python -m coverage run -m pytest tests/core
	.venv/bin/python -m coverage report --include='aelf_p2p/core/*' --fail-under=95
	.venv/bin/python -m pytest --ignore=tests/core

test-lowest: .venv-lowest/installed-test ## run them on the lowest dependencies
	.venv-lowest/bin/python -m pytest

# purerpc needs an h2 that our grpc transport refuses, so its tests talk to it across environments.
test-purerpc: export AELF_P2P_GRPC_PYTHON = $(CURDIR)/.venv/bin/python
test-purerpc: test-purerpc-newest test-purerpc-lowest ## run those of the purerpc transport

test-purerpc-newest: .venv/installed-test .venv-purerpc/installed-test
	.venv-purerpc/bin/python -m pytest tests/transports/purerpc
	.venv-purerpc/bin/python -m pytest -p tests.transports.purerpc.in_place_of_grpc \
		tests/wire_foreign tests/node/test_matrix.py

test-purerpc-lowest: .venv/installed-test .venv-purerpc-lowest/installed-test
	.venv-purerpc-lowest/bin/python -m pytest tests/transports/purerpc

lint: .venv/installed-lint ## check style and formatting
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: .venv/installed-test .venv/installed-lint ## check types
	.venv/bin/mypy

faults: .venv/installed-test ## try all faults and attacks, and write docs/faults.md
	.venv/bin/python -m tests.faults --write

cycles: .venv/installed-test ## 10,000 connections that come to nothing; CYCLES="--help" lists options
	.venv/bin/python -m tests.faults.cycles $(CYCLES)

ends: .venv/installed-test ## how soon a peer knows that a node was stopped or killed, and has it back
	.venv/bin/python -m tests.faults.ends

soak: .venv/installed-test ## a node with 25 busy peers for an hour; SOAK="--minutes 10" for less
	.venv/bin/python -m tests.faults.soak $(SOAK)

mutants: .venv/installed-test ## plant bugs in copies, and see that the tests catch them
	.venv/bin/python -m tests.mutants $(MUTANTS)

fuzz: .venv-fuzz/installed ## fuzz each parser for 5 minutes, over two hours in all; FUZZ="--help" lists options
	.venv-fuzz/bin/python -m tests.fuzz $(FUZZ)

fuzz-briefly: # all of them in less than a minute, the same each time: what is new in them is found by make fuzz
	@if $(MAKE) --no-print-directory .venv-fuzz/installed; \
	then .venv-fuzz/bin/python -m tests.fuzz --in-all 55 --jobs 2 --seed 1; \
	else echo "atheris cannot be installed: nothing is fuzzed, the corpus was only replayed" >&2; fi

# What strangers reach first: text, handshakes, stream messages, gRPC's messages, HTTP/2.
INPUTS ?= 60000
AT_RANDOM := endpoint handshake stream_handshake envelope stream_session messages grpc_client grpc_server

fuzz-at-random: .venv/installed-test ## random inputs for what strangers reach first, 60,000 each; INPUTS=1000000 for more
	.venv/bin/python -m tests.fuzz $(AT_RANDOM) --inputs $(INPUTS) --jobs 2 --seed 1

BENCH ?= all

bench: .venv/installed-bench bench-rivals ## measure all beside rivals, some 7 minutes; BENCH="--help" lists single ones
	.venv/bin/python -m benchmarks $(BENCH)

bench-rivals: # those that need an environment of their own; who cannot be installed is left out
	@for rival in purerpc libp2p; do \
		$(MAKE) --no-print-directory .venv-bench-$$rival/installed \
		|| echo "$$rival cannot be installed: it will be left out" >&2; done

proto: .venv-proto/installed ## regenerate the code of all .proto files
	$(call generate,.,tests/foreign)

check-proto: .venv-proto/installed ## fail when the generated code is not what the .proto files give
	rm -rf .venv-proto/check && mkdir -p .venv-proto/check/ours/aelf_p2p .venv-proto/check/foreign
	$(call generate,.venv-proto/check/ours,.venv-proto/check/foreign)
	diff -ru -x __pycache__ -x __init__.py -x methods.py aelf_p2p/wire .venv-proto/check/ours/aelf_p2p/wire
	diff -ru -x __pycache__ -x '*.proto' tests/foreign .venv-proto/check/foreign

clean: ## remove environments, caches and build results
	rm -rf .venv .venv-lowest .venv-purerpc .venv-purerpc-lowest .venv-proto .venv-fuzz .venv-bench-purerpc .venv-bench-libp2p
	rm -rf build dist *.egg-info .coverage .fuzz .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find aelf_p2p tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# $(1) receives aelf_p2p/wire, $(2) the second copy of AElf's messages that the tests use.
define generate
	.venv-proto/bin/python -m grpc_tools.protoc -Iproto --python_out=$(1) --pyi_out=$(1) $(WIRE_PROTOS)
	.venv-proto/bin/python -m grpc_tools.protoc -Itests/foreign --python_out=$(2) --pyi_out=$(2) $(FOREIGN_PROTOS)
endef

# --- environments: the stamp is newer than what was installed from ---------------------------------

.venv/bin/python .venv-lowest/bin/python .venv-proto/bin/python .venv-fuzz/bin/python \
.venv-purerpc/bin/python .venv-purerpc-lowest/bin/python \
.venv-bench-purerpc/bin/python .venv-bench-libp2p/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found; name one with PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv $(@D:/bin=)

.venv/installed: setup.cfg | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) -e .
	@touch $@

.venv/installed-test: setup.cfg | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) -e '.[test]'
	@touch $@

.venv/installed-lint: setup.cfg | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) -e '.[lint]'
	@touch $@

.venv/installed-bench: setup.cfg | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) -e '.[bench]'
	@touch $@

.venv-lowest/installed-test: setup.cfg requirements/lowest.txt | .venv-lowest/bin/python
	.venv-lowest/bin/python $(PIP_INSTALL) -r requirements/lowest.txt -e '.[test]'
	@touch $@

.venv-purerpc/installed-test: setup.cfg | .venv-purerpc/bin/python
	.venv-purerpc/bin/python $(PIP_INSTALL) -e '.[test,purerpc]'
	@touch $@

.venv-purerpc-lowest/installed-test: setup.cfg requirements/lowest-purerpc.txt | .venv-purerpc-lowest/bin/python
	.venv-purerpc-lowest/bin/python $(PIP_INSTALL) -r requirements/lowest-purerpc.txt -e '.[test,purerpc]'
	@touch $@

.venv-fuzz/installed: setup.cfg | .venv-fuzz/bin/python
	.venv-fuzz/bin/python $(PIP_INSTALL) -e '.[fuzz]'
	@touch $@

.venv-proto/installed: Makefile | .venv-proto/bin/python
	.venv-proto/bin/python $(PIP_INSTALL) $(GRPCIO_TOOLS)
	@touch $@

# Rivals whose dependencies do not go with our newest: purerpc needs an h2 below 4, libp2p an old protobuf.
.venv-bench-purerpc/installed: setup.cfg Makefile | .venv-bench-purerpc/bin/python
	.venv-bench-purerpc/bin/python $(PIP_INSTALL) -e '.[purerpc]' 'purerpc==0.8.0'
	@touch $@

.venv-bench-libp2p/installed: setup.cfg Makefile | .venv-bench-libp2p/bin/python
	.venv-bench-libp2p/bin/python $(PIP_INSTALL) -e . 'libp2p==0.8.1'
	@touch $@
