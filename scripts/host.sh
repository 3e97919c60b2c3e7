# Shared by scripts/test and scripts/demo: what the host needs, and giving back what was changed.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Shared by all clones: they take minutes to build.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/memorystreamer/tools"
export PATH="$tools/bin:$PATH"

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
skip() { printf 'SKIP %s: %s\n' "$1" "$2"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# Installs the Debian packages that are missing among the arguments.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || die "missing packages: run as root: apt-get install ${missing[*]}"
    command -v apt-get >/dev/null || die "missing packages and no apt-get: ${missing[*]}"
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$repo/target/apt.log" 2>&1 ||
        die "apt-get failed, see target/apt.log"
}

# Installs a cargo tool of a given version into $tools unless that one is on the PATH.
need_cargo_tool() {
    case "$(cargo "${1#cargo-}" --version 2>/dev/null)" in *" $2") return ;; esac
    echo "installing $1 $2"
    cargo install --quiet --locked --root "$tools" --version "$2" "$1"
}

need_rust() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust with rustup (https://rustup.rs)"
    mkdir -p "$repo/target"
}

huge_pages_before=
huge_mount=

# Reserves up to $1 huge pages of 2 MiB if that is permitted and leaves most memory free; mounts a hugetlbfs
# for the log. Both are given back by restore_host.
take_huge_pages() {
    local wanted=$1 file=/proc/sys/vm/nr_hugepages free_mib
    free_mib=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
    if [ "$(id -u)" -ne 0 ] || [ ! -w "$file" ]; then
        skip huge-pages "not permitted"
        return
    fi
    if [ "$free_mib" -lt $((wanted * 4)) ]; then
        skip huge-pages "only $free_mib MiB of memory are free"
        return
    fi
    huge_pages_before=$(cat "$file")
    if [ "$huge_pages_before" -lt "$wanted" ]; then
        echo "$wanted" >"$file" || true
        echo "huge pages: $huge_pages_before -> $(cat "$file")"
    fi
    huge_mount=$(mktemp -d)
    if mount -t hugetlbfs -o pagesize=2M none "$huge_mount" 2>/dev/null; then
        export MSTREAM_HUGETLBFS=$huge_mount
    else
        rmdir "$huge_mount"
        huge_mount=
        skip hugetlbfs "mount is not permitted"
    fi
}

restore_host() {
    if [ -n "$huge_mount" ]; then
        umount "$huge_mount" 2>/dev/null || true
        rmdir "$huge_mount" 2>/dev/null || true
    fi
    if [ -n "$huge_pages_before" ]; then
        echo "$huge_pages_before" >/proc/sys/vm/nr_hugepages || true
    fi
}
