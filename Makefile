# The two commands of the README, and what they are made of. Everything uses the release profile, so that
# dependencies are compiled once; scripts/setup installs what is missing and builds RocksDB once per machine.

.PHONY: demo test build setup bench failover

## Publish a real log through a cluster of three, kill its leader on the way, and compare every line (INPUT=file).
demo: build
	scripts/demo $(if $(INPUT),"$(INPUT)")

## Everything that CI runs.
test: setup
	scripts/test

build: setup
	cargo build --release -p eventstream-host

setup:
	scripts/setup

## Micro-benchmarks, with peers in the same run.
bench: setup
	cargo bench -p benches

## The outage as a client sees it: 100 killed leaders, 50 stopped in order, 50 silent cuts (docs/failover.md).
failover: setup
	cargo bench -p eventstream-host --bench failover
