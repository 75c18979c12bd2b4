//! The command line of the load generator.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = clap::Command::new("loadgen").about("Loads an HTTP/1.1 server and says what it measured");
    arguments.get_matches();
    ExitCode::SUCCESS
}
