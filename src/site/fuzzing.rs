//! What must hold for any bytes, of the readers of this layer; as in [`crate::http::fuzzing`]. A violation panics.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Site;
use super::auth::Credentials;
use super::host::{Hosts, host_name, parse_name};
use super::htpasswd::Users;

/// The value of an Authorization field: who is read out of it is who was written into it, and can be written again.
pub fn authorization(value: &[u8]) {
    let Some(credentials) = Credentials::parse(value) else { return };
    let (user, password) = (credentials.user(), credentials.password());
    assert!(!user.contains(&b':') && ![user, password].concat().iter().any(u8::is_ascii_control));
    assert!(value.len() > 6 && value[..6].eq_ignore_ascii_case(b"basic "));
    let again = format!("Basic {}", STANDARD.encode([user, b":", password].concat()));
    assert_eq!(Credentials::parse(again.as_bytes()).as_ref(), Some(&credentials));
    assert_eq!(value[6..].trim_ascii(), &again.as_bytes()[6..], "there is one way to write it");
}

/// A Host field's value, a line end, and names of sites, one a line. What is found has that name, and nothing nearer.
pub fn host(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let host = lines.next().unwrap_or_default();
    let names = lines.filter_map(|line| parse_name(std::str::from_utf8(line).ok()?).ok());
    let mut sites = vec![Site::default()];
    sites.extend(names.map(|name| Site { names: vec![name], ..Site::default() }));
    let hosts = Hosts::new(&sites);
    let found = hosts.find(host);
    assert!(found < sites.len());
    for noise in [&[host, b":80"].concat()[..], &host.to_ascii_uppercase(), &host.to_ascii_lowercase()] {
        if host_name(noise).eq_ignore_ascii_case(host_name(host)) {
            assert_eq!(hosts.find(noise), found, "{}", noise.escape_ascii());
        }
    }
    let name = host_name(host).to_ascii_lowercase();
    let length = |site: &Site| {
        let own = site.names.first()?.as_bytes();
        match own.strip_prefix(b"*") {
            None => (own == name).then_some(usize::MAX),
            Some(below) => (name.len() > below.len() && name.ends_with(below)).then_some(below.len()),
        }
    };
    let best = sites.iter().filter_map(length).max();
    assert_eq!(length(&sites[found]), best.filter(|_| name.len() <= 255), "{}", name.escape_ascii());
}

/// A file of users: every line is a user, nothing, or a mistake in that line.
pub fn htpasswd(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (users, mistakes) = Users::parse(text);
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    assert_eq!(users.len() + mistakes.len(), lines);
    for mistake in mistakes {
        let line = text.lines().nth(mistake.line - 1).expect("a line of the file");
        assert!(mistake.column <= line.chars().count() + 1, "{mistake:?}");
    }
}
