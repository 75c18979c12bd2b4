//! `--cgi-linger`, `--cgi-nice`, `--cgi-umask`, `--cgi-user`, `--cgi-cgroup`: how programs are run.

use std::path::PathBuf;

use ucaffeine::serve::options::{Cgroup, Linger, ScriptBounds};

use super::decide;
use super::problem::Problem;
use super::sources::{Given, Layers};

/// This program binds scripts itself. Not by its path: that may lead to another version by then.
const HELPER: &str = "/proc/self/exe";

/// All but the limits, which are in the table of those.
pub(crate) fn bounds(layers: &Layers, problems: &mut Vec<Problem>) -> ScriptBounds {
    ScriptBounds {
        nice: decide(layers, "cgi-nice", None, nice, problems),
        umask: decide(layers, "cgi-umask", None, umask, problems),
        user: decide(layers, "cgi-user", None, user, problems),
        cgroup: decide(layers, "cgi-cgroup", Cgroup::Off, cgroup, problems),
        helper: Some(PathBuf::from(HELPER)),
        ..ScriptBounds::default()
    }
}

pub(crate) fn linger(given: &Given) -> Result<Linger, Problem> {
    match given.str()? {
        "keep" => Ok(Linger::Keep),
        "kill" => Ok(Linger::Kill),
        _ => Err(given.unreadable("neither keep nor kill")),
    }
}

pub(super) fn nice(given: &Given) -> Result<Option<u8>, Problem> {
    match given.str()?.parse() {
        Ok(nice @ 0..=19) => Ok(Some(nice)),
        _ => Err(given.unreadable("not a nice value; 0 to 19")),
    }
}

pub(super) fn umask(given: &Given) -> Result<Option<u16>, Problem> {
    let text = given.str()?;
    match u16::from_str_radix(text, 8) {
        Ok(umask @ 0..=0o777) if !text.starts_with('+') => Ok(Some(umask)),
        _ => Err(given.unreadable("not an octal mask; 0 to 777, as in 027")),
    }
}

/// Whether there is such a user is for the start to find out.
pub(super) fn user(given: &Given) -> Result<Option<String>, Problem> {
    let text = given.str()?;
    let mut parts = text.split(':');
    let is_name = |part: Option<&str>| part.is_some_and(|name| !name.is_empty() && !name.contains('\0'));
    let fits = is_name(parts.next()) && parts.next().is_none_or(|group| is_name(Some(group))) && parts.next().is_none();
    if !fits {
        return Err(given.unreadable("needs USER or USER:GROUP, as in www-data"));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(given.impossible("only root can run programs as another user; start the server as root"));
    }
    Ok(Some(text.to_owned()))
}

fn cgroup(given: &Given) -> Result<Cgroup, Problem> {
    match given.text.to_str() {
        Some("off") => Ok(Cgroup::Off),
        Some("auto") => Ok(Cgroup::Auto),
        _ => Ok(Cgroup::Below(given.path(&given.text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sources::Origin;
    use super::*;

    fn given(text: &str) -> Given {
        Given { text: text.into(), origin: Origin::Flag("--x".into()) }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for (text, wanted) in [("0", Some(0)), ("19", Some(19)), ("20", None), ("-1", None), ("x", None)] {
            assert_eq!(nice(&given(text)).ok().flatten(), wanted, "{text}");
        }
        for (text, wanted) in
            [("027", Some(0o27)), ("0", Some(0)), ("777", Some(0o777)), ("1000", None), ("8", None), ("+2", None)]
        {
            assert_eq!(umask(&given(text)).ok().flatten(), wanted, "{text}");
        }
        for text in ["", ":", "a:", ":a", "a:b:c"] {
            assert!(user(&given(text)).unwrap_err().what.contains("USER or USER:GROUP"), "{text}");
        }
        assert_eq!(cgroup(&given("/x")).ok(), Some(Cgroup::Below("/x".into())));
        assert!(linger(&given("Keep")).is_err());
    }
}
