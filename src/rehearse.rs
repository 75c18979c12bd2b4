//! `ucaffeine cgi-env`: a request as it would be typed to curl, for a script that is run once and explained.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use ucaffeine::serve::options::{Listen, Options, PORT_DEFAULT};
use ucaffeine::serve::{self, Client, StartError};

use crate::cli::{self, Typed};

/// The first argument that means this.
pub(crate) const VERB: &str = "cgi-env";

/// What was typed.
pub(crate) struct Rehearsal {
    /// How the server would be started.
    pub(crate) server: Typed,
    head: Vec<u8>,
    has_host: bool,
    body: Vec<u8>,
}

/// Reads what follows the verb: `URL-PATH`, what the server is started with, and behind `--` what curl would be told.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Rehearsal, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (server, request) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (&arguments[..], &[][..]),
    };
    let [target, server @ ..] = server else { return Err(usage("a URL-PATH is wanted, as /cgi-bin/name")) };
    if target == "-h" || target == "--help" {
        return Err(command().error(ErrorKind::DisplayHelp, command().render_long_help()));
    }
    if !target.as_bytes().starts_with(b"/") {
        return Err(usage(&format!("{} is no URL-PATH: one begins with a slash", target.display())));
    }
    let program = OsString::from("ucaffeine");
    let server = cli::parse(std::iter::once(program.clone()).chain(server.iter().cloned()))?;
    let request = command().try_get_matches_from(std::iter::once(program).chain(request.iter().cloned()))?;
    let body = body(&request).map_err(|why| usage(&why))?;
    let (head, has_host) = head(target, &request, body.as_deref());
    Ok(Rehearsal { server, head, has_host, body: body.unwrap_or_default() })
}

/// Runs the script. True: a client would get its reply.
pub(crate) fn run(options: Options, rehearsal: &Rehearsal) -> Result<bool, StartError> {
    let local = local(&options);
    let mut head = rehearsal.head.clone();
    if !rehearsal.has_host {
        head.extend_from_slice(format!("Host: {local}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    let remote = SocketAddr::new(local.ip(), 0);
    let client = Client { remote, local, head: &head, body: &rehearsal.body };
    serve::rehearse(options, &client, &mut std::io::stdout(), &mut std::io::stderr())
}

/// The options behind `--`, named as curl names them.
pub(crate) fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(OsString)).help(help)
    };
    Command::new("ucaffeine cgi-env")
        .no_binary_name(false)
        .about("Prints what a CGI program would be told about a request, runs it as the server would, and says what came of it.")
        .override_usage("ucaffeine cgi-env URL-PATH [DIR] [FLAGS OF THE SERVER] [-- REQUEST]")
        .max_term_width(100)
        .after_help(AFTER)
        .arg(text("request", "METHOD", "The method [default: GET, or POST with data]").short('X'))
        .arg(text("header", "NAME: VALUE", "A header field; may be repeated").short('H').action(ArgAction::Append))
        .arg(
            text("data", "DATA", "A form as the body; may be repeated, joined by &. @FILE reads it, without line ends")
                .short('d')
                .action(ArgAction::Append),
        )
        .arg(text("data-binary", "DATA", "The body as it is; @FILE reads it, @- reads standard input").conflicts_with("data"))
        .arg(Arg::new("head").long("head").short('I').action(ArgAction::SetTrue).help("The same as -X HEAD"))
}

const AFTER: &str = "\
Nothing is listened on and nothing is served. The script's own stderr goes to standard error.

Exit codes:
  0 a client would get the script's reply, whatever its status
  1 a client would get one of the server's own, and the last line says which and why
  2 wrong usage, 3 wrong configuration, 5 engine unavailable";

fn usage(why: &str) -> clap::Error {
    command().error(ErrorKind::InvalidValue, why)
}

/// The head of the request, without its Host if none was typed, and whether one was.
fn head(target: &OsStr, request: &ArgMatches, body: Option<&[u8]>) -> (Vec<u8>, bool) {
    let typed = request.get_one::<OsString>("request").map(|method| method.as_bytes());
    let usual: &[u8] = match (request.get_flag("head"), body) {
        (true, _) => b"HEAD",
        (false, Some(_)) => b"POST",
        (false, None) => b"GET",
    };
    let mut head = [typed.unwrap_or(usual), b" ", target.as_bytes(), b" HTTP/1.1\r\n"].concat();
    let fields: Vec<&[u8]> =
        request.get_many::<OsString>("header").unwrap_or_default().map(|it| it.as_bytes()).collect();
    let has = |name: &str| {
        let is_it =
            |field: &&[u8]| field.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
        fields.iter().any(is_it)
    };
    for field in &fields {
        head.extend_from_slice(field);
        head.extend_from_slice(b"\r\n");
    }
    if let Some(body) = body {
        head.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        if !has("content-type:") {
            head.extend_from_slice(b"Content-Type: application/x-www-form-urlencoded\r\n");
        }
    }
    (head, has("host:"))
}

fn body(request: &ArgMatches) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = request.get_one::<OsString>("data-binary") {
        return read(data).map(Some);
    }
    let Some(parts) = request.get_many::<OsString>("data") else { return Ok(None) };
    let mut form = Vec::new();
    for (at, part) in parts.enumerate() {
        if at > 0 {
            form.push(b'&');
        }
        let mut data = read(part)?;
        if part.as_bytes().starts_with(b"@") {
            data.retain(|byte| !matches!(byte, b'\r' | b'\n'));
        }
        form.extend_from_slice(&data);
    }
    Ok(Some(form))
}

/// `@FILE`, `@-`, or the data itself.
fn read(data: &OsStr) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", data.display());
    match data.as_bytes() {
        b"@-" => {
            let mut all = Vec::new();
            std::io::stdin().lock().read_to_end(&mut all).map_err(failed)?;
            Ok(all)
        }
        [b'@', file @ ..] => std::fs::read(OsStr::from_bytes(file)).map_err(failed),
        _ => Ok(data.to_owned().into_vec()),
    }
}

/// Where a client of this server would connect to.
fn local(options: &Options) -> SocketAddr {
    let tcp = options.listen.iter().find_map(|listen| if let Listen::Tcp(addr) = listen { Some(*addr) } else { None });
    let mut local = tcp.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)));
    if local.ip().is_unspecified() {
        local.set_ip(if local.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    if local.port() == 0 {
        local.set_port(PORT_DEFAULT);
    }
    local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Rehearsal, clap::Error> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn requests_as_curl_would_make_them() {
        let table: [(&[&str], &str, &str); 6] = [
            (&["/a?b"], "GET /a?b HTTP/1.1\r\n", ""),
            (&["/a", "dir", "--", "-I"], "HEAD /a HTTP/1.1\r\n", ""),
            (&["/a", "--", "-X", "PUT", "-H", "X-A: b", "-H", "X-A: c"], "PUT /a HTTP/1.1\r\nX-A: b\r\nX-A: c\r\n", ""),
            (
                &["/a", "--", "-d", "x=1", "-d", "y=2"],
                "POST /a HTTP/1.1\r\nContent-Length: 7\r\nContent-Type: application/x-www-form-urlencoded\r\n",
                "x=1&y=2",
            ),
            (
                &["/a", "--", "--data-binary", "one\ntwo", "-H", "content-type: text/plain"],
                "POST /a HTTP/1.1\r\ncontent-type: text/plain\r\nContent-Length: 7\r\n",
                "one\ntwo",
            ),
            (&["/a", "--", "-H", "Host: example.test"], "GET /a HTTP/1.1\r\nHost: example.test\r\n", ""),
        ];
        for (arguments, head, body) in table {
            let rehearsal = parsed(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            assert_eq!(String::from_utf8_lossy(&rehearsal.head), head, "{arguments:?}");
            assert_eq!(String::from_utf8_lossy(&rehearsal.body), body, "{arguments:?}");
            assert_eq!(rehearsal.has_host, head.contains("Host"), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_not_understood() {
        let wrong: [&[&str]; 6] = [
            &[],
            &["cgi-bin/x"],
            &["/x", "--nonsense"],
            &["/x", "--", "--nonsense"],
            &["/x", "--", "-d"],
            &["--", "/x"],
        ];
        for arguments in wrong {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
    }
}
