//! `mstream`: publish, subscribe, and manage nodes, from a shell.

fn main() {}
