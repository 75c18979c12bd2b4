//! What every model is told: the server's own flags, as far as a model has the thing.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

/// The common flags, read.
#[derive(Clone)]
pub(crate) struct Args {
    pub(crate) root: PathBuf,
    pub(crate) address: SocketAddr,
    /// Workers, threads or cores, as the model has them.
    pub(crate) workers: usize,
    /// Everything runs on this CPU.
    pub(crate) cpu: Option<usize>,
    /// Whether `cgi-bin` is run.
    pub(crate) programs: bool,
    /// The one program that answers everything.
    pub(crate) program: Option<PathBuf>,
}

/// As both seeds that have workers want it.
const WORKERS_DEFAULT: &str = "4";
const WORKERS_MAX: i64 = 1024;
const PORT_DEFAULT: &str = "8080";

impl Args {
    pub(crate) fn flags() -> Vec<Arg> {
        let path = || value_parser!(PathBuf);
        vec![
            Arg::new("dir").value_name("DIR").value_parser(path()).help("The folder to serve [default: this one]"),
            Arg::new("path").long("path").value_name("DIR").value_parser(path()).conflicts_with("dir").help("The same"),
            Arg::new("port")
                .short('p')
                .long("port")
                .value_parser(value_parser!(u16))
                .default_value(PORT_DEFAULT)
                .help("Port; 0 takes a free one and prints it"),
            Arg::new("bind")
                .short('b')
                .long("bind")
                .value_parser(value_parser!(IpAddr))
                .default_value("127.0.0.1")
                .help("Address"),
            Arg::new("workers")
                .short('w')
                .long("workers")
                .visible_alias("cores")
                .value_parser(value_parser!(u64).range(1..=WORKERS_MAX as u64))
                .default_value(WORKERS_DEFAULT)
                .help("Worker processes, threads or cores"),
            Arg::new("cpu").long("cpu").value_parser(value_parser!(usize)).help("Run everything on this CPU"),
            Arg::new("no-cgi").long("no-cgi").action(ArgAction::SetTrue).help("Run no programs; cgi-bin is then 404"),
        ]
    }

    /// The flag of the models that give every request to one program.
    pub(crate) fn program_flag() -> Arg {
        Arg::new("program").long("program").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
            "Run this program for every request; it writes the whole response, status line and all, to its stdout",
        )
    }

    pub(crate) fn from_flags(flags: &ArgMatches) -> Args {
        // clap has filled in the defaults; the fallbacks only spare a panic path.
        let port = flags.get_one("port").copied().unwrap_or(8080);
        let bind = flags.get_one("bind").copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let root = flags.get_one::<PathBuf>("dir").or_else(|| flags.get_one("path"));
        let program = flags.try_get_one::<PathBuf>("program").ok().flatten();
        Args {
            root: root.cloned().unwrap_or_else(|| PathBuf::from(".")),
            address: SocketAddr::new(bind, port),
            workers: flags.get_one::<u64>("workers").map_or(4, |workers| *workers as usize),
            cpu: flags.get_one("cpu").copied(),
            programs: !flags.get_flag("no-cgi"),
            program: program.cloned(),
        }
    }

    /// Pins this thread, and with it whatever it starts later.
    ///
    /// # Errors
    /// There is no such CPU for this process.
    pub(crate) fn pin(&self) -> io::Result<()> {
        match self.cpu {
            Some(id) if !core_affinity::set_for_current(core_affinity::CoreId { id }) => {
                Err(io::Error::other(format!("cannot pin to CPU {id}")))
            }
            _ => Ok(()),
        }
    }

    /// Listens, and says where. `getaddrinfo(3)` is in it: std resolves an address that way, a numeric one included.
    ///
    /// # Errors
    /// EADDRINUSE, EACCES, EADDRNOTAVAIL: named with the address.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        let address = self.address;
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind((address.ip().to_string(), address.port())).map_err(failed)?;
        crate::sys::set_backlog(&listener, BACKLOG)?;
        Ok(listener)
    }
}

/// As long as the kernel allows by default (net.core.somaxconn).
pub(crate) const BACKLOG: i32 = 4096;

/// The banner: the one line that scripts wait for.
pub(crate) fn announce(listener: &TcpListener) -> io::Result<()> {
    println!("http://{}/", listener.local_addr()?);
    Ok(())
}
