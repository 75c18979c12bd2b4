//! The `ucaffeine` binary: what was typed, what it means, run, exit code.
#![forbid(unsafe_code)]

fn main() {}
