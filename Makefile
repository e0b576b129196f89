# Targets for people; see `make help`.  The work is in scripts/ and tests/.
# SPDX-License-Identifier: GPL-2.0-or-later

STEP  = scripts/step
BASE  = tools base headers series
BED   = outer kernel arm64 libvirt-arm64

help:
	@echo "make demo          boot a guest with an assigned disk behind an accelerated SMMUv3"
	@echo "make demo-shell    the shell of that guest, and QEMU's monitor for info smmuv3"
	@echo "make check         all tests (TESTS='unit qtest model guest libvirt plan base series nested' picks)"
	@echo "make check-64k     the same with pages of 64 KiB in host and guest, on one more kernel"
	@echo "make check-libvirt only the tests that start domains by Debian's libvirt"
	@echo "make check-series  build every step of both series by itself"
	@echo "make check-long    waits and repetitions that are too long for make check"
	@echo "make check-mutants break QEMU on purpose, and see that the tests notice (hours)"
	@echo "make check-sample  the same for SAMPLE=40 of the generated mutants, drawn anew"
	@echo "make coverage      which lines of ours the tests reach; fails where one has no reason why not"
	@echo "make fuzz          a hostile guest, guided by coverage, on the host model for SECONDS=3600"
	@echo "make soak          random guests on the host model for SECONDS=3600"
	@echo "make demo-nested   the demo on a real kernel: an emulated host, a guest under KVM in it"
	@echo "make nested        only the tests that boot guests on a real kernel"
	@echo "make bench         exits, calls and times against Debian's QEMU 11.1, into docs/bench (40 minutes)"
	@echo "make docs          QEMU's manuals with ours, as HTML; ours begins at system/arm/smmuv3.html"
	@echo "make series        write the mails of both series to build/mails and build/mails-nested"
	@echo "make build         only build QEMU for this computer: build/x86/qemu-system-aarch64"
	@echo "make deb           Debian packages with the series, for this computer or ARCH=arm64 (as root)"
	@echo "make check-deb     install those over Debian's, boot a guest with them, and go back (as root)"
	@echo "make clean         remove build/ (what was fetched stays in the cache)"
	@echo
	@echo "./configure --help lists the options; make runs it by itself."
	@echo "README.md says how to work on the code, and has the command line for hardware."

build/config.mak:
	@./configure > /dev/null

demo: build/config.mak
	@$(STEP) $(BASE) x86 model guest
	@tests/guest/run demo

# the demo's guest, with its shell and QEMU's monitor for you
demo-shell: build/config.mak
	@$(STEP) $(BASE) x86 model guest
	@tests/guest/run shell

# the same on a real kernel, its iommufd and its arm-smmu-v3 driver
demo-nested: build/config.mak
	@$(STEP) $(BASE) model $(BED)
	@tests/nested/run demo

build: build/config.mak
	@$(STEP) $(BASE) x86

# After sudo make, build/ is the user's again
OWN = if [ -n "$$SUDO_UID" ]; then chown -Rh "$$SUDO_UID:$$SUDO_GID" build; fi

# qemu-system-arm and its companions, for this computer or another: make deb ARCH=arm64
ARCH =
deb: build/config.mak
	@trap '$(OWN)' EXIT; $(STEP) $(BASE) && scripts/deb $(ARCH)

# Suites that boot nothing nested need not wait for the emulated host, its kernel and an
# arm64 QEMU.
TESTS =
check: build/config.mak
	@$(STEP) $(BASE) $(if $(filter-out nested series guest libvirt plan libvirt-nested,$(or $(TESTS),all)),pristine asan) \
	        model $(if $(filter guest libvirt plan,$(or $(TESTS),guest)),x86) \
	        $(if $(filter guest libvirt,$(or $(TESTS),guest)),guest) \
	        $(if $(filter guest,$(or $(TESTS),guest)),peer) \
	        $(if $(filter libvirt plan,$(or $(TESTS),libvirt)),libvirt) \
	        $(if $(filter nested libvirt-nested,$(or $(TESTS),nested)),$(BED))
	@scripts/check $(TESTS)

nested:
	@$(MAKE) --no-print-directory check TESTS=nested

check-libvirt:
	@$(MAKE) --no-print-directory check TESTS='libvirt libvirt-nested'

# No part of make check, because the packages take long to build: all of Debian's features and
# pages of documentation.
check-deb: deb
	@trap '$(OWN)' EXIT; \
	$(STEP) model $(if $(filter arm64,$(ARCH)),$(filter-out arm64 libvirt-arm64,$(BED)),guest) && \
	DEB_ARCH=$(ARCH) scripts/check deb

check-series: build/config.mak
	@$(STEP) $(BASE)
	@scripts/check steps

# The host's kernel and the guest's with pages of 64 KiB; one more kernel to build.
check-64k: build/config.mak
	@$(STEP) $(BASE) model x86 $(BED)
	@tests/nested/kernel 64k > /dev/null
	@scripts/check 64k

# Resets, crashes and SubstreamIDs with -m slow, and a disk plugged at each tenth of a second of a boot
check-long: build/config.mak
	@$(STEP) $(BASE) asan model x86 guest $(BED)
	@scripts/check long

check-mutants: build/config.mak
	@$(STEP) $(BASE) pristine asan model x86 guest
	@scripts/mutants
	@scripts/mutate

# 40 of the generated mutants, drawn anew: make check-sample SAMPLE=100 LEAST=90
SAMPLE = 40
LEAST =
check-sample: build/config.mak
	@$(STEP) $(BASE) pristine model
	@scripts/mutate --sample $(SAMPLE) --limit 60 $(if $(LEAST),--least $(LEAST))

# lines and branches of ours that unit tests and qtests reach; the report is build/coverage.txt
coverage: build/config.mak
	@$(STEP) $(BASE) pristine model
	@scripts/coverage

# SECONDS=600 make soak
SECONDS = 3600
soak: build/config.mak
	@$(STEP) $(BASE) asan model
	@SMMUV3_SOAK=$(SECONDS) scripts/tests run qtest-aarch64/smmuv3-coherence-test \
	        -p /aarch64/smmuv3-coherence/random/grace

# SECONDS=600 make fuzz; scripts/fuzz --help says how to play what it finds
fuzz: build/config.mak
	@$(STEP) $(BASE) fuzz model
	@scripts/fuzz $(SECONDS)

# our QEMU and Debian's 11.1 on the emulated host; the cost of a command on the host model
TIMES = 5
bench: build/config.mak
	@$(STEP) $(BASE) x86 model $(BED)
	@scripts/bench --times $(TIMES)

docs: build/config.mak
	@scripts/setup python3-sphinx python3-sphinx-rtd-theme
	@$(STEP) $(BASE) docs
	@echo build/docs/docs/manual/system/arm/smmuv3.html

series: build/config.mak
	@$(STEP) $(BASE) mails

clean:
	rm -rf build

.PHONY: help demo demo-shell demo-nested build deb check check-64k nested check-libvirt check-deb check-series \
	check-long check-mutants docs check-sample coverage fuzz soak bench series clean
