# What a person asks for; see `make help`.  The work is in scripts/ and tests/.
# SPDX-License-Identifier: GPL-2.0-or-later

STEP  = scripts/step
BASE  = tools base headers series
BED   = x86 kernel arm64

help:
	@echo "make demo          boot a guest with an assigned disk behind an accelerated SMMUv3"
	@echo "make check         all tests (TESTS='unit qtest model base series nested' picks suites)"
	@echo "make check-series  build every step of the series by itself"
	@echo "make nested        only the tests that boot guests on a real kernel"
	@echo "make series        write the mails to build/mails"
	@echo "make build         only build QEMU for this computer: build/x86/qemu-system-aarch64"
	@echo "make clean         remove build/ (what was fetched stays in the cache)"
	@echo
	@echo "./configure --help says what can be chosen; make runs it by itself."
	@echo "README.md has the loop of a person at work, and the command line for hardware."

build/config.mak:
	@./configure > /dev/null

demo: build/config.mak
	@$(STEP) $(BASE) $(BED)
	@tests/nested/run demo

build: build/config.mak
	@$(STEP) $(BASE) x86

# Suites that boot nothing nested need not wait for a kernel and an arm64 QEMU.
TESTS =
check: build/config.mak
	@$(STEP) $(BASE) $(if $(filter-out nested series,$(or $(TESTS),all)),pristine asan model) \
	        $(if $(filter nested,$(or $(TESTS),nested)),$(BED))
	@scripts/check $(TESTS)

nested:
	@$(MAKE) --no-print-directory check TESTS=nested

check-series: build/config.mak
	@$(STEP) $(BASE)
	@scripts/check steps

series: build/config.mak
	@$(STEP) $(BASE) mails

clean:
	rm -rf build

.PHONY: help demo build check nested check-series series clean
