# Works from a fresh clone. Prerequisites: Rust (cargo), a C++ compiler, Python 3 with pip, make.
PYTHON ?= python3
CARGO ?= cargo
BINARY = target/release/heterodyne

.PHONY: help demo test reference bench build libtorch check cross

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

demo: build ## distil a ViT into a CNN on scanned digits; prints a table and writes a report (a few minutes)
	$(BINARY) demo

test: libtorch ## run all tests; PYTHON=.reference/bin/python adds comparisons with timm and ONNX Runtime
	$(PYTHON) -m unittest discover -q -s tools
	PYTHON="$(if $(findstring /,$(PYTHON)),$(abspath $(PYTHON)),$(PYTHON))" $(CARGO) test --release --workspace --locked

reference: ## install PyTorch, timm and ONNX Runtime in .reference/ for comparisons (2 GB to download, 6 GB on disk)
	$(PYTHON) -m venv .reference
	.reference/bin/pip install --quiet --requirement tools/requirements.txt

bench: libtorch ## time a step against PyTorch + timm; ARGS="--pair @32 --method kd" narrows it (bench/)
	$(CARGO) build --release --locked --bin heterodyne --example bench_step
	$(PYTHON) bench/compare.py $(ARGS)

build: libtorch ## build the command-line tool, target/release/heterodyne
	$(CARGO) build --release --locked --bin heterodyne

libtorch: ## install PyTorch's C++ library in .libtorch/, or link LIBTORCH if its version is right
	@$(PYTHON) tools/libtorch.py

check: libtorch ## check format, lints, documentation and the pages of results; all warnings denied
	$(PYTHON) tools/pages.py --check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --release -p heterodyne --no-default-features --lib --example classify --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps --locked

cross: build ## compile the shim's C++ for aarch64 without running it (Debian: g++-aarch64-linux-gnu)
	$(PYTHON) tools/cross_check.py
