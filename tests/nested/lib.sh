# What the scripts of the nested test bed share; sourced, not run.
#
# Fetched packages and the finished kernel live in a cache outside the tree,
# under the hash of their inputs.  A missing cache only costs time.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../scripts/common.sh"

work=$build/nested
CROSS=${CROSS:-aarch64-linux-gnu-}
mkdir -p "$work/logs" "$cache"

say() { echo "${0#"$top"/}: $*" >&2; }

# hash of standard input, short enough for a path
key() { sha256sum | cut -c1-16; }

# step LOG MESSAGE COMMAND...: run COMMAND, with its output in build/nested/logs/LOG,
# and print the progress every 20 seconds.
step() {
    local log=$work/logs/$1 text=$2 start=$SECONDS status=0 watch
    shift 2
    say "$text (log: $log)"
    # a sleep that outlives the step must not hold the lock or a pipe of the caller
    (while sleep 20 > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do
        say "  $((SECONDS - start)) s: $(tail -n 1 "$log" | cut -c1-70)"
    done) > /dev/null 9>&- &
    watch=$!
    "$@" > "$log" 2>&1 < /dev/null || status=$?
    kill "$watch"
    if [ $status != 0 ]; then
        tail -n 25 "$log" >&2
        die "failed: $text; the whole log is $log"
    fi
    say "done in $((SECONDS - start)) s"
}

# fetch ARCH NAME...: Debian packages into the cache, once; prints their
# directory.  SUITE in the environment picks a suite other than the default.
fetch() {
    local arch=$1 dir
    shift
    dir=$cache/debs/$(echo "${SUITE:-} $arch $*" | key)
    if [ ! -e "$dir/complete" ]; then
        mkdir -p "$dir"
        say "fetching $# packages for $arch"
        "$top/scripts/apt" deb "$arch" "$dir" "$@" >&2 ||
            die "apt could not fetch: $*"
        touch "$dir/complete"
    fi
    echo "$dir"
}

# libraries ARCH PACKAGE: the packages of shared libraries that PACKAGE needs,
# into the cache; prints their directory.
libraries() {
    local list=$cache/$2-$1.packages names
    if [ ! -s "$list" ]; then
        say "asking apt what $2 depends on"
        "$top/scripts/apt" closure "$1" "$2" |
            grep -E '^z?lib' | grep -vE -- '-(data|common|db)$' > "$list.new"
        mv "$list.new" "$list"
    fi
    mapfile -t names < "$list"
    SUITE='' fetch "$1" "${names[@]}"
}

# unpack DIR PACKAGEDIR...: every package of the directories into DIR.
unpack() {
    local dir=$1 from deb
    shift
    for from; do
        for deb in "$from"/*.deb; do
            dpkg-deb -x "$deb" "$dir"
        done
    done
}

# bundle ROOT PROGRAM OUT: PROGRAM (stripped), the shared libraries that it
# needs from ROOT and the loader, as a directory that runs anywhere:
# OUT/ld.so --library-path OUT OUT/NAME
bundle() {
    local root=$1 program=$2 out=$3 todo=("$2") next lib path
    rm -rf "$out.new"
    mkdir -p "$out.new"
    "${CROSS}strip" -o "$out.new/$(basename "$program")" "$program"
    while [ ${#todo[@]} -gt 0 ]; do
        next=("${todo[@]}")
        todo=()
        for lib in $("${CROSS}readelf" -d "${next[@]}" |
                     sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u); do
            [ ! -e "$out.new/$lib" ] || continue
            path=$(find "$root" -path '*/lib/*' -name "$lib" -print -quit)
            [ -n "$path" ] || die "$program needs $lib, which is not in $root"
            cp -L "$path" "$out.new/$lib"
            todo+=("$out.new/$lib")
        done
    done
    (cd "$out.new" && ln -s ld-linux-*.so.* ld.so)
    rm -rf "$out"
    mv "$out.new" "$out"
}
