//! Other server architectures, one file each, run beside ucaffeine so that a comparison compares one thing.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use self::args::Args;

mod args;
mod blocking;
mod epoll_aio;
mod floor;
mod handler;
mod monoio;
mod per_core;
mod prefork_fdpass;
mod prefork_reuseport;
mod queue;
mod reactor_pool;
mod served;
mod session;
mod sys;
mod thread_pool;
mod tokio_uring;

/// One row: a server that `models NAME` starts and that runs until SIGINT or SIGTERM.
struct Model {
    name: &'static str,
    about: &'static str,
    /// Flags that only this model has.
    flags: fn() -> Vec<Arg>,
    run: fn(&Args, &ArgMatches) -> std::io::Result<()>,
}

const MODELS: &[Model] = &[
    Model {
        name: "prefork-fdpass",
        about: "Caffeine 1: pre-forked workers that are passed their clients over a Unix socket",
        flags: prefork_fdpass::flags,
        run: prefork_fdpass::run,
    },
    Model {
        name: "prefork-reuseport",
        about: "Caffeine 2: pre-forked workers that accept on one shared listener",
        flags: prefork_reuseport::flags,
        run: prefork_reuseport::run,
    },
    Model {
        name: "thread-pool",
        about: "HTTPower: a main thread that accepts, a bounded queue, a pool of threads",
        flags: thread_pool::flags,
        run: thread_pool::run,
    },
    Model {
        name: "epoll-aio",
        about: "Asynchronous Web Server: one epoll loop, sendfile and Linux AIO",
        flags: epoll_aio::flags,
        run: epoll_aio::run,
    },
    Model {
        name: "reactor-pool",
        about: "KQueue HTTP Server: an event loop that hands ready clients to a pool of threads",
        flags: reactor_pool::flags,
        run: reactor_pool::run,
    },
    Model {
        name: "tokio-uring",
        about: "tokio-uring 0.5: a runtime and a listener per thread",
        flags: tokio_uring::flags,
        run: tokio_uring::run,
    },
    Model {
        name: "monoio",
        about: "monoio 0.2 on io_uring: a runtime and a listener per thread",
        flags: monoio::flags,
        run: monoio::run,
    },
    Model {
        name: "floor",
        about: "The limit: a raw io_uring that parses a head and sends a fixed 1 KiB body",
        flags: floor::flags,
        run: floor::run,
    },
];

fn main() -> ExitCode {
    let matches = command().get_matches();
    let Some((name, flags)) = matches.subcommand() else { return ExitCode::from(2) };
    let Some(model) = MODELS.iter().find(|model| model.name == name) else {
        for model in MODELS {
            println!("{:<18} {}", model.name, model.about);
        }
        return ExitCode::SUCCESS;
    };
    match (model.run)(&Args::from_flags(flags), flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("models {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let models = MODELS
        .iter()
        .map(|model| Command::new(model.name).about(model.about).args(Args::flags()).args((model.flags)()));
    Command::new("models")
        .about("Other server architectures, measured beside ucaffeine")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("Print the models"))
        .subcommands(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_reach_the_model() {
        let matches = command()
            .try_get_matches_from(["models", "floor", "site", "--port", "0", "--cpu", "1", "-b", "::1", "--cores", "2"])
            .unwrap();
        let (name, flags) = matches.subcommand().unwrap();
        let args = Args::from_flags(flags);
        assert_eq!((name, args.cpu, args.address.to_string()), ("floor", Some(1), "[::1]:0".to_string()));
        assert_eq!((args.root.to_str(), args.workers), (Some("site"), 2));
    }
}
