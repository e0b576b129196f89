# What all shell scripts of the project share; sourced, never run.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
set -euo pipefail
shopt -s inherit_errexit
PATH=$PATH:/usr/sbin:/sbin      # mke2fs is there, and a user's PATH is without

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
cache=${XDG_CACHE_HOME:-${HOME:-$build}/.cache}/smmuv3-accel

die() { echo "${0#"$top"/}: $*" >&2; exit 1; }

# The value that configure wrote for $1, or nothing.
config() { sed -n "s/^$1=//p" "$build/config.mak" 2>/dev/null || true; }

# Take the lock $1: one process at a time has it, until its script ends.
lock() {
    mkdir -p "$build"
    exec 9> "$build/.$1.lock"
    flock 9
}

# Link our device lists into the QEMU tree $1, for --with-devices-aarch64.
link_configs() {
    local f cpu name exclude
    exclude=$(cd "$1" && realpath "$(git rev-parse --git-path info/exclude)")
    for f in "$top"/configs/*.mak; do
        for cpu in aarch64 arm; do
            name=configs/devices/$cpu-softmmu/$(basename "$f")
            ln -sfnr "$f" "$1/$name"
            grep -qxsF "/$name" "$exclude" || echo "/$name" >> "$exclude"
        done
    done
}
