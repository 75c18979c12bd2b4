//! The command line of the load generator.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use loadgen::session::{self, About};
use loadgen::{cli, prepare};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let matches = cli::command("loadgen").get_matches_from(&words);
    let asked = cli::asked(&words, &matches);
    ucaffeine::rt::net::raise_descriptor_limit();
    let plan = match prepare::plan(&asked, 1) {
        Ok(plan) => Arc::new(plan),
        Err(why) => {
            eprintln!("loadgen: {why}");
            return ExitCode::from(2);
        }
    };
    let about = About { words: asked.words.clone(), server_pid: asked.server_pid };
    match session::run(&plan, &about, drop) {
        Ok(run) => {
            println!("{:#?}", run.facts);
            println!("{} {:?} {:?}", run.requests_per_second(), run.measured, run.errors);
            for q in [0.5, 0.9, 0.99, 0.999] {
                println!(
                    "{q}: {} {} lag {}",
                    run.latency.response.at_quantile(q),
                    run.latency.service.at_quantile(q),
                    run.generator.lag.at_quantile(q)
                );
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("loadgen: {failure}");
            ExitCode::from(1)
        }
    }
}
