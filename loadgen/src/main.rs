//! The command line of the load generator.

mod app;
#[cfg(test)]
mod manual;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::main(std::env::args_os().collect())
}
