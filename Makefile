# Everything a fresh clone needs. Prerequisites: Rust (cargo), a C++ compiler, Python 3 with pip, make.
PYTHON ?= python3
CARGO ?= cargo
BINARY = target/release/heterodyne

.PHONY: help demo test reference bench build libtorch check cross

help: ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

demo: build ## a ViT teaches a conv net on real digits: a table, a report, three minutes
	$(BINARY) demo

test: libtorch ## every test of the workspace; PYTHON=.reference/bin/python adds the comparisons with timm and ONNX Runtime
	$(PYTHON) -m unittest discover -q -s tools
	PYTHON="$(if $(findstring /,$(PYTHON)),$(abspath $(PYTHON)),$(PYTHON))" $(CARGO) test --release --workspace --locked

reference: ## PyTorch, timm and ONNX Runtime in .reference/, for comparisons and tools/package_teacher.py (2 GB to download, 6 GB on disk)
	$(PYTHON) -m venv .reference
	.reference/bin/pip install --quiet --requirement tools/requirements.txt

bench: build ## the distillation step against PyTorch + timm; ARGS="--pair vit_small --method kd" narrows it (bench/README.md)
	$(PYTHON) bench/compare.py $(ARGS)

build: libtorch ## the command-line tool, target/release/heterodyne
	$(CARGO) build --release --locked --bin heterodyne

libtorch: ## PyTorch's C++ library in .libtorch/ (or a link to yours, if LIBTORCH names one of the right version)
	@$(PYTHON) tools/libtorch.py

check: libtorch ## format, lints and documentation, all warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps --locked

cross: build ## the shim's C++ compiled for aarch64 (Debian: g++-aarch64-linux-gnu), nothing run
	$(PYTHON) tools/cross_check.py
