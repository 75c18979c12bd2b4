//! `--trusted-proxy`, `--proxy-protocol`, `--conns-per-ip` and `--user`: who is believed, how many may come, and who we are.

use ucaffeine::http::trust::{Network, Trusted};
use ucaffeine::serve::options::{Listen, Options, ProxyProtocol};

use super::decide;
use super::listen;
use super::problem::Problem;
use super::programs;
use super::sources::{Given, Layers};

/// The most that may be asked for; more is no bound.
const CONNS_PER_IP_MAX: u32 = 1_000_000;

/// Takes all four into the options, in which the listeners stand already.
pub(crate) fn decide_all(layers: &Layers, options: &mut Options, problems: &mut Vec<Problem>) {
    options.trusted = trusted(layers, problems);
    options.proxy_protocol = proxy_protocol(layers, options, problems);
    options.conns_per_ip_max = decide(layers, "conns-per-ip", None, conns_per_ip, problems);
    options.user = decide(layers, "user", None, programs::user_name, problems);
    if let (Some(_), Some(given)) = (&options.user, layers.one("cgi-user")) {
        problems.push(given.impossible("the server gives root up (--user), so programs run as that user"));
    }
}

fn trusted(layers: &Layers, problems: &mut Vec<Problem>) -> Trusted {
    let mut trusted = Trusted::default();
    for given in layers.all("trusted-proxy") {
        match given.str().map(|text| (text, Network::parse(text))) {
            Ok(("unix", _)) => trusted.unix = true,
            Ok((_, Ok(network))) => trusted.networks.push(network),
            Ok((_, Err(what))) => problems.push(given.unreadable(what)),
            Err(problem) => problems.push(problem),
        }
    }
    trusted
}

fn proxy_protocol(layers: &Layers, options: &Options, problems: &mut Vec<Problem>) -> ProxyProtocol {
    let given = layers.all("proxy-protocol");
    let Some(first) = given.first() else { return ProxyProtocol::Off };
    if layers.all("trusted-proxy").is_empty() {
        problems.push(first.impossible("nobody could connect; say who may speak it with --trusted-proxy"));
    }
    if given.iter().any(|given| given.text == "all") {
        return ProxyProtocol::All;
    }
    let listener = |given: &Given| -> Result<Listen, Problem> {
        let listen = listen::address_of(given, layers)?;
        match options.listen.contains(&listen) {
            true => Ok(listen),
            false => Err(given.impossible(format!("nothing listens on {listen}; name one of --bind, or all"))),
        }
    };
    let mut these = Vec::new();
    for given in given {
        match listener(given) {
            Ok(listen) => these.push(listen),
            Err(problem) => problems.push(problem),
        }
    }
    ProxyProtocol::On(these)
}

fn conns_per_ip(given: &Given) -> Result<Option<u32>, Problem> {
    match given.str()?.parse() {
        Ok(0) => Ok(None),
        Ok(most @ 1..=CONNS_PER_IP_MAX) => Ok(Some(most)),
        _ => Err(given.unreadable(format!("not a number of connections; 1 to {CONNS_PER_IP_MAX}, or 0 for no bound"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sources::{Layer, Origin};
    use super::*;

    fn resolve(said: &[(&'static str, &str)]) -> (Options, Vec<String>) {
        let mut layer = Layer::default();
        for &(name, text) in said {
            layer.add(name, Given { text: text.into(), origin: Origin::Flag(format!("--{name}")) });
        }
        let layers = Layers([layer, Layer::default(), Layer::default()]);
        let mut problems = Vec::new();
        let mut options = Options { listen: listen::listen(&layers, &mut problems), ..Options::default() };
        decide_all(&layers, &mut options, &mut problems);
        (options, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn what_is_said_holds() {
        let (options, problems) = resolve(&[
            ("trusted-proxy", "10.0.0.0/8"),
            ("trusted-proxy", "unix"),
            ("bind", "127.0.0.1"),
            ("bind", "127.0.0.1:81"),
            ("proxy-protocol", "127.0.0.1:81"),
            ("conns-per-ip", "20"),
            ("user", "www-data:adm"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert!(options.trusted.unix && options.trusted.has("10.1.2.3".parse().ok()));
        let spoken: Vec<bool> =
            options.listen.iter().map(|listen| options.proxy_protocol.is_spoken_on(listen)).collect();
        assert_eq!(spoken, [false, true]);
        assert_eq!((options.conns_per_ip_max, options.user.as_deref()), (Some(20), Some("www-data:adm")));
        let (options, _) = resolve(&[("trusted-proxy", "::1"), ("proxy-protocol", "all"), ("conns-per-ip", "0")]);
        assert_eq!((options.proxy_protocol, options.conns_per_ip_max), (ProxyProtocol::All, None));
        let (options, _) = resolve(&[]);
        assert_eq!(options, Options::default());
    }

    #[test]
    fn anything_else_has_a_cause() {
        let table: [(&[(&str, &str)], &str); 8] = [
            (&[("trusted-proxy", "10.0.0.1/8")], "--trusted-proxy 10.0.0.1/8: the address has bits beyond the prefix"),
            (&[("trusted-proxy", "proxy.example")], "not a network"),
            (&[("proxy-protocol", "all")], "nobody could connect"),
            (&[("trusted-proxy", "::1"), ("proxy-protocol", "127.0.0.1:81")], "nothing listens on 127.0.0.1:81"),
            (&[("trusted-proxy", "::1"), ("proxy-protocol", "localhost")], "not an address"),
            (&[("conns-per-ip", "-1")], "not a number of connections"),
            (&[("user", "a:b:c")], "USER or USER:GROUP"),
            (&[("user", "www-data"), ("cgi-user", "nobody")], "gives root up"),
        ];
        for (said, says) in table {
            let (_, problems) = resolve(said);
            assert!(problems.len() == 1 && problems[0].contains(says), "{said:?}: {problems:?}");
        }
    }
}
