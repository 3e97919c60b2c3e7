//! Raw bindings of DPDK: just the functions that `mstream-nic-dpdk` calls, under DPDK's own names.
//!
//! Made at build time by the workspace's `build.rs` from `wrapper.h` and the installed DPDK's headers.
//! DPDK's inline functions are reached through a shim with a real function for each. Names starting
//! with `mstream_` or `MSTREAM_` come from `wrapper.h`. Large structures are opaque: they are only
//! passed on by pointer, and the fields of an `rte_mbuf` are found by the `MSTREAM_MBUF_*` offsets.
//!
//! Linked dynamically; DPDK finds its drivers in its own plugin folder when it starts.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    reason = "generated from C headers: names, layouts and accessors are not ours to choose"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
