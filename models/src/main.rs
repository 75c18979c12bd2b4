//! Other server architectures, one file each, run beside ucaffeine so that a comparison compares one thing.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

mod floor;
mod sys;

/// One row: a server that `models NAME` starts and that runs until SIGINT or SIGTERM.
struct Model {
    name: &'static str,
    about: &'static str,
    /// Flags that only this model has.
    flags: fn() -> Vec<Arg>,
    run: fn(&Args, &ArgMatches) -> std::io::Result<()>,
}

const MODELS: &[Model] = &[Model {
    name: "floor",
    about: "The limit: a raw io_uring that parses a head and sends a fixed 1 KiB body",
    flags: floor::flags,
    run: floor::run,
}];

/// What every model is told.
pub(crate) struct Args {
    pub(crate) address: SocketAddr,
    pub(crate) cpu: Option<usize>,
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    let Some((name, flags)) = matches.subcommand() else { return ExitCode::from(2) };
    let Some(model) = MODELS.iter().find(|model| model.name == name) else {
        for model in MODELS {
            println!("{:<12} {}", model.name, model.about);
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

impl Args {
    fn flags() -> [Arg; 3] {
        [
            Arg::new("port")
                .short('p')
                .long("port")
                .value_parser(value_parser!(u16))
                .default_value("8090")
                .help("Port; 0 takes a free one"),
            Arg::new("bind")
                .short('b')
                .long("bind")
                .value_parser(value_parser!(IpAddr))
                .default_value("127.0.0.1")
                .help("Address"),
            Arg::new("cpu").long("cpu").value_parser(value_parser!(usize)).help("Pin the serving thread to this CPU"),
        ]
    }

    fn from_flags(flags: &ArgMatches) -> Args {
        // clap has filled in the defaults; the fallbacks only spare a panic path.
        let port = flags.get_one("port").copied().unwrap_or(8090);
        let bind = flags.get_one("bind").copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
        Args { address: SocketAddr::new(bind, port), cpu: flags.get_one("cpu").copied() }
    }
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
        let matches =
            command().try_get_matches_from(["models", "floor", "--port", "0", "--cpu", "1", "-b", "::1"]).unwrap();
        let (name, flags) = matches.subcommand().unwrap();
        let args = Args::from_flags(flags);
        assert_eq!((name, args.cpu, args.address.to_string()), ("floor", Some(1), "[::1]:0".to_string()));
    }
}
