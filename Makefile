# Weft: every command that a developer needs. `make` lists them. The work is done by tools/ and CMakePresets.json.

PRESET ?= release
# make demo: STEPS=n trains for fewer steps, KILL=1 kills a worker on the way, FRESH=1 forgets a finished run.
export STEPS KILL FRESH
# make test: arguments for ctest, e.g. ARGS='-R Clip' or ARGS='-L unit'
export ARGS
# make fuzz: seconds for each target, and which (all without it)
export FUZZ_SECONDS FUZZ_TARGETS

.DEFAULT_GOAL := help
.PHONY: help setup build test demo parity bench-step bench-decode check-images bench-data bench-loader cuda debug tsan fuzz crosscheck format check-format lint clean

help: ## List every target
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

setup: ## Install what is missing: Debian packages, LibTorch (LIBTORCH_ROOT=DIR uses one that is there)
	@tools/setup.sh

build: setup ## Build everything (PRESET=release, debug, tsan or cuda)
	@tools/build.sh $(PRESET)

test: build ## Build and run every test (PRESET=..., ARGS='-R name' for some)
	@tools/test.sh $(PRESET)

demo: setup ## Pretrain a small CLIP on real pictures and show what it learned (STEPS=n, KILL=1, FRESH=1)
	@tools/build.sh $(PRESET) weft weft-worker
	@tools/demo.sh

parity: setup ## Compare every model under every layout with one process (build/reports/parity.json)
	@tools/build.sh $(PRESET) weft_parity
	@mkdir -p build/reports
	@build/$(PRESET)/bin/weft_parity --json build/reports/parity.json

.PHONY: conformance bundle test-bundle
conformance: setup ## Run the suite of all communicator backends, and each breach of NCCL's contract (build/reports/conformance.json)
	@tools/build.sh $(PRESET) comm_test gpu_double_test
	@tools/conformance.py build/$(PRESET)/tests build/reports/conformance.json

bundle: setup ## Pack weft, weft-worker and what they need into build/bundle, to run elsewhere (PRESET=release or cuda)
	@tools/build.sh $(PRESET) weft weft-worker weft_parity
	@tools/bundle.sh $(PRESET)

test-bundle: bundle ## Run the bundle in a clean root: version, data, training
	@tools/test_bundle.sh $(PRESET)

bench-step: setup ## Measure steps: bubble of every schedule, throughput and overlap of layouts (build/reports/bench-step-*.json)
	@tools/build.sh $(PRESET) weft weft-worker
	@tools/bench_step.sh build/$(PRESET)/bin/weft

bench-data: setup ## Measure opening 100 million samples, finding a batch, and indexing 1 GB beside dd (build/reports/loader-manifest.json, loader-index.json)
	@tools/build.sh $(PRESET) weft_loader_index_bench
	@build/$(PRESET)/bin/weft_loader_index_bench

bench-loader: setup ## Resume a mix at every step, deal by balance, pack, read through a cache, kill and starve the loader process (build/reports/loader-*.json; what it logs: bench-loader.log)
	@tools/build.sh $(PRESET) weft weft-worker loader_order_test loader_process_test integration_test weft_loader_cache_bench weft_loader_group_bench
	@mkdir -p build/reports && : > build/reports/bench-loader.log
	@WEFT_REPORTS=$(CURDIR)/build/reports build/$(PRESET)/tests/loader_order_test --gtest_filter='Balance*:PackBestFit*:*MixResume*' 2>> build/reports/bench-loader.log
	@WEFT_REPORTS=$(CURDIR)/build/reports build/$(PRESET)/tests/loader_process_test --gtest_filter='*Resident*' 2>> build/reports/bench-loader.log
	@WEFT_REPORTS=$(CURDIR)/build/reports build/$(PRESET)/tests/integration_test --gtest_filter='LoaderProcess.Killed*' 2>> build/reports/bench-loader.log
	@build/$(PRESET)/bin/weft_loader_group_bench 2>> build/reports/bench-loader.log
	@build/$(PRESET)/bin/weft_loader_cache_bench 2>> build/reports/bench-loader.log

bench-decode: setup ## Measure decoding beside other loaders from PyPI and libjpeg-turbo, with 1 and 2 threads (build/reports/decode.json; REPEATS=5)
	@tools/build.sh $(PRESET) weft_decode_bench weft_decode_path_bench
	@tests/bench/decode/run.sh build/$(PRESET)/bin

check-images: setup ## Compare EXACT with Pillow on 6,000 pictures, made ones and two Debian packages', say how far FAST is (build/reports/images.json)
	@tools/build.sh $(PRESET) weft_cook_images
	@tests/crosscheck/images.sh build/$(PRESET)/bin/weft_cook_images

cuda: setup ## Build the CUDA and NCCL code, where the CUDA toolkit is
	@tools/find_cuda.sh
	@tools/build.sh cuda

debug: ## Build and test with the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory test PRESET=debug

tsan: ## Build and test the libraries without LibTorch with the thread sanitizer
	@$(MAKE) --no-print-directory test PRESET=tsan

crosscheck: setup ## Compare the formats of shards with webdataset, MosaicML streaming and img2dataset, by hash (build/reports/loader-crosscheck.json)
	@tools/build.sh $(PRESET) weft
	@tests/crosscheck/run.sh build/$(PRESET)/bin/weft

fuzz: setup ## Run every fuzz target for FUZZ_SECONDS=60 each, with clang and the sanitizers; a finding fails (FUZZ_TARGETS='fuzz_tar ...' for some)
	@tools/fuzz.sh

format: ## Format all sources in place
	@tools/format.sh

check-format: ## Say which sources are not formatted
	@tools/format.sh --check

lint: setup ## Run clang-tidy on the files changed since BASE (default: main)
	@tools/build.sh $(PRESET)
	@tools/lint.sh $(PRESET) $(BASE)

clean: ## Remove what was built (not .deps/, which setup made)
	@rm -rf build
