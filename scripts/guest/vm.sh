# Small virtual machines under QEMU, shared by scripts/guest-*: packages, kernel, initramfs, boot. Sourced after
# host.sh. Nothing is installed for the kernel's sake: its package is unpacked into $guest.
# shellcheck shell=bash

guest=${CARGO_TARGET_DIR:-$repo/target}/guest
# Process of the running machine, if any.
vm=

# Ends the script, well, for want of something that this host cannot give.
skip_all() {
    skip "${0##*/}" "${1#"${0##*/}: "}"
    exit 0
}

# Makes $guest, for one script at a time.
take_guest() {
    mkdir -p "$guest" "$repo/target"
    exec 8>"$guest/lock"
    flock -n 8 || die "another script is using $guest"
}

# Installs packages among the arguments that are missing; skips the script if that fails.
need_guest_packages() {
    local reason
    { reason=$(need_packages "$@" 2>&1 >&3); } 3>&1 || skip_all "$reason"
}

# Unpacks Debian's kernel for virtual machines; its image is $kernel and its modules are below $kernel_modules.
need_kernel() {
    local root=$guest/kernel
    if [ ! -e "$root/complete" ]; then
        rm -rf "$root"
        mkdir -p "$root"
        # The lists of packages may be missing, or older than what the servers still have.
        fetch_kernel "$root" || { [ "$(id -u)" -eq 0 ] && apt-get update -q >>"$root/apt.log" 2>&1 && fetch_kernel "$root"; } ||
            skip_all "the kernel cannot be had (package linux-image-cloud-amd64), see $root/apt.log"
        dpkg-deb -x "$root"/linux-image-*.deb "$root"
        touch "$root/complete"
    fi
    kernel=$(echo "$root"/boot/vmlinuz-*)
    kernel_modules=$(echo "$root"/lib/modules/*/kernel)
}

# fetch_kernel FOLDER: the package that linux-image-cloud-amd64 stands for.
fetch_kernel() {
    local name
    name=$(kernel_package)
    [ -n "$name" ] || return
    echo "fetching $name"
    (cd "$1" && apt-get download -q "$name" >>apt.log 2>&1)
}

# Name of the package that linux-image-cloud-amd64 stands for.
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ {print $2; exit}'
}

# new_root: an empty root file system at $root, with busybox.
new_root() {
    root=$guest/root
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,etc,lib,lib64,mnt,modules,proc,run,sys,tmp}
    cp /bin/busybox "$root/bin/"
}

# add_programs PATH...: programs of this host, into /bin, with the libraries they need.
add_programs() {
    local program
    for program in "$@"; do
        cp -L "$program" "$root/bin/"
        add_libraries "$program"
    done
}

# add_libraries PATH: the libraries that a program or library needs.
add_libraries() {
    local library
    ldd "$1" | awk '/=> \// {print $3} $1 ~ /^\// {print $1}' | while read -r library; do
        case $library in
            */ld-linux*) cp -L "$library" "$root/lib64/" ;;
            # ld.so searches /lib by itself.
            *) cp -L "$library" "$root/lib/" ;;
        esac
    done
}

# add_modules NAME...: modules of the kernel and those that they need, in the order in which init loads them.
add_modules() {
    local name found depends number
    for name in "$@"; do
        # A module's name has _ where its file may have -.
        name=${name//-/_}
        [ -z "$(find "$root/modules" -name "*-$name.ko")" ] || continue
        found=$(find "$kernel_modules" -name "${name//_/[_-]}.ko*")
        [ -n "$found" ] || die "the kernel has no module $name"
        depends=$(modinfo -F depends "$found")
        # shellcheck disable=SC2086 # a list of names
        add_modules ${depends//,/ }
        number=$(find "$root/modules" -type f | wc -l)
        cp "$found" "$root/modules/$((number + 10))-$name.ko"
    done
}

# pack_root INIT: $initramfs, of $root with this script as its init.
pack_root() {
    initramfs=$guest/initramfs
    cp "$1" "$root/init"
    chmod 755 "$root/init"
    (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$initramfs"
}

# boot ARGUMENTS QEMU-OPTION...: starts a machine, $vm, with these arguments for its kernel. Its console goes to
# $guest/console and its second serial port to $guest/out, both emptied first. The kernel does not test its timer: on a
# busy host that may fail.
boot() {
    local arguments=$1
    shift
    rm -f "$guest/out" "$guest/console" "$guest/monitor.in" "$guest/monitor.out"
    mkfifo "$guest/monitor.in" "$guest/monitor.out"
    qemu-system-x86_64 -no-user-config -nodefaults -display none -no-reboot \
        -kernel "$kernel" -initrd "$initramfs" -append "console=ttyS0 panic=-1 quiet no_timer_check $arguments" \
        -serial "file:$guest/console" -serial "file:$guest/out" \
        -chardev "pipe,id=monitor,path=$guest/monitor" -mon chardev=monitor \
        "$@" </dev/null >"$guest/qemu.log" 2>&1 &
    vm=$!
}

# tell_qemu COMMAND: to the monitor of the running machine.
tell_qemu() {
    # A pipe that nobody reads keeps its writer waiting.
    timeout 10 tee "$guest/monitor.in" <<<"$1" >/dev/null || vm_failed "QEMU's monitor takes no command"
}

# kill_vm: as if the power went.
kill_vm() {
    [ -n "$vm" ] || return 0
    kill -9 "$vm" 2>/dev/null || true
    wait "$vm" 2>/dev/null || true
    vm=
}

# vm_failed WHAT: says what the machine said, and ends.
vm_failed() {
    kill_vm
    tail -n 20 "$guest/qemu.log" "$guest/console" "$guest/out" >&2 || true
    die "$1"
}

# wait_for PATTERN SECONDS: until a line of $guest/out matches. A line may still be growing: match its end.
wait_for() {
    local tick
    for ((tick = 0; tick < $2 * 10; tick++)); do
        if grep -q -s -E "$1" "$guest/out"; then
            return
        fi
        kill -0 "$vm" 2>/dev/null || vm_failed "the machine ended before it said '$1'"
        sleep 0.1
    done
    vm_failed "the machine did not say '$1' within $2 s"
}

# wait_off SECONDS: until the machine has powered itself off.
wait_off() {
    local tick
    for ((tick = 0; tick < $1 * 10; tick++)); do
        if ! kill -0 "$vm" 2>/dev/null; then
            wait "$vm" || vm_failed "QEMU failed"
            vm=
            return
        fi
        sleep 0.1
    done
    vm_failed "the machine is still running after $1 s"
}

# expect LINE: a whole line of what the machine said.
expect() {
    grep -qxF -- "$1" "$guest/out" || vm_failed "expected of the machine: $1"
}
