# Build the packages of the Arm machines alone.  debian/rules includes this file after
# debian/control.mk.  Beside that line, nothing of Debian's packaging is changed but three lists
# of files, where modules are left out.  Features, flags and what else each package has stay
# Debian's.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# qemu-system-arm, those that depend on its exact version, and those that load the same modules
arm-packages := qemu-system-arm qemu-system-common qemu-system-gui qemu-system-modules-opengl \
	qemu-system-modules-spice qemu-block-extra qemu-utils

# debhelper leaves out the others ...
export DH_OPTIONS := $(patsubst %,-N%,$(filter-out ${arm-packages},\
	$(shell sed -n 's/^Package: //p' debian/control)))
override BUILD_PACKAGES := ${arm-packages}

# ... also the one by which debian/rules knows whether to build emulators at all,
override enable-system := y
system-packages := arm
QEMU_CONFIGURE_OPTIONS += --target-list="$(addsuffix -softmmu,${system-archlist-arm})"

# and of its builds the microvm
override qemu-builds := qemu man html
