//! Finds DPDK by pkg-config, makes its bindings with bindgen and compiles the shim; run for
//! `nic/dpdk-sys`, whose folder is the current one.
//!
//! The shim is C that bindgen writes: one real function for each static inline one that is bound.
//! Whatever is missing on the machine is one line that names the Debian package to install.

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The first DPDK release that this was built and tested with.
const OLDEST: &str = "22.11";
const HEADER: &str = "wrapper.h";

/// Functions that are bound, as regular expressions over whole names.
const FUNCTIONS: &[&str] = &[
    "mstream_.*",
    "rte_eal_(init|cleanup|get_runtime_dir|hotplug_add|hotplug_remove|alarm_set)",
    "rte_eth_(dev_configure|dev_start|dev_stop|dev_close|dev_get_mtu|dev_get_port_by_name)",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_(rx|tx)_queue_setup",
    "rte_eth_(rx|tx)_burst",
    "rte_eth_promiscuous_(enable|disable)",
    "rte_eth_(xstats_get|xstats_get_names|macaddr_get|from_rings)",
    "rte_mempool_(free|avail_count)",
    "rte_pktmbuf_(pool_create|alloc|free)",
    "rte_ring_(create|free)",
    "rte_strerror",
    "rte_thread_(register|unregister)",
    "rte_version",
];

/// Types that are bound with their insides.
const TYPES: &[&str] = &[
    "mstream_.*",
    "rte_eal_alarm_callback",
    "rte_eth_xstat",
    "rte_eth_xstat_name",
    "rte_ether_addr",
];

/// Structures that are only passed on by pointer: their insides stay out of the bindings.
const OPAQUE: &[&str] =
    &["rte_mbuf", "rte_mempool", "rte_ring", "rte_eth_conf", "rte_eth_rxconf", "rte_eth_txconf"];

/// Libraries that the bound functions live in. Drivers are loaded by DPDK itself at run time, but for
/// net_ring, which has a function of its own to make a port.
const LIBRARIES: &[&str] =
    &["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_net_ring"];

fn main() {
    println!("cargo:rerun-if-changed={HEADER}");
    println!("cargo:rerun-if-changed=../../build.rs");
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "LIBCLANG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let flags = find_dpdk();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_else(|| fail("run by cargo only")));
    let shim = out.join("shim.c");
    make_bindings(&flags, &out.join("bindings.rs"), &shim);
    compile_shim(&flags, &shim);
}

/// The compiler flags for DPDK's headers; tells cargo how to link.
fn find_dpdk() -> Vec<String> {
    if pkg_config(&["--exists"]).is_none() {
        fail("DPDK was not found (pkg-config libdpdk): apt-get install libdpdk-dev pkg-config");
    }
    if pkg_config(&[&format!("--atleast-version={OLDEST}")]).is_none() {
        let found = pkg_config(&["--modversion"]).unwrap_or_default().join(" ");
        fail(&format!("DPDK {found} is too old, {OLDEST} or later is needed: install libdpdk-dev"));
    }
    for flag in pkg_config(&["--libs-only-L"]).unwrap_or_default() {
        if let Some(folder) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
        }
    }
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    // Among them -march: the least processor that DPDK's headers, and so the shim, need. It is the
    // packager's choice for the whole of DPDK and stays as it is.
    pkg_config(&["--cflags"]).unwrap_or_else(|| fail("pkg-config --cflags libdpdk failed"))
}

/// What pkg-config says about DPDK, or `None` when it says no or is missing.
fn pkg_config(arguments: &[&str]) -> Option<Vec<String>> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(program).args(arguments).arg("libdpdk").output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

fn make_bindings(flags: &[String], bindings: &Path, shim: &Path) {
    let mut builder = bindgen::Builder::default()
        .header(HEADER)
        .clang_args(flags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_static_fns(true)
        .wrap_static_fns_path(shim)
        .allowlist_recursively(false)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(true);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in OPAQUE {
        builder = builder.raw_line(format!(
            "#[repr(C)]\n#[derive(Debug)]\npub struct {name} {{ _private: [u8; 0] }}"
        ));
    }
    // Without libclang bindgen panics; the hook keeps its backtrace from hiding the one line.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let made = panic::catch_unwind(AssertUnwindSafe(|| builder.generate()));
    panic::set_hook(hook);
    let made = match made {
        Ok(Ok(made)) => made,
        Ok(Err(error)) => fail(&format!("bindgen failed on DPDK's headers: {error}")),
        Err(_) => fail("libclang was not found or is unusable: apt-get install libclang-dev clang"),
    };
    if let Err(error) = made.write_to_file(bindings) {
        fail(&format!("cannot write {}: {error}", bindings.display()));
    }
}

fn compile_shim(flags: &[String], shim: &Path) {
    let mut build = cc::Build::new();
    // The shim names the header by its path in this package. DPDK's headers warn under -Wextra.
    build.file(shim).include(".").opt_level(3).warnings(false).cargo_warnings(false);
    for flag in flags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("mstream_dpdk_shim") {
        fail(&format!("the shim did not compile (apt-get install gcc): {error}"));
    }
}

fn fail(reason: &str) -> ! {
    eprintln!("mstream-dpdk-sys: {reason}");
    exit(1)
}
