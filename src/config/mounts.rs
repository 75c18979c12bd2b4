//! `DIR`, `--cgi`, `--no-cgi` and `--cgi-env`: what is served, what is executed, and what is neither. What a `[[location]]` says
//! about programs comes in between.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use ucaffeine::serve::options::{CGI_BIN, EnvVar, MountConfig, MountKind, SiteConfig};

use super::locations::{self, Ground};
use super::problem::{Problem, ProblemKind};
use super::sources::{Given, Layers, started_in};
use super::tables::LocationTable;

/// A site's folder and its programs, which are not taken away where there are to be none: what they are hides them.
pub(crate) fn site(
    ground: &Ground<'_>,
    tables: &[LocationTable],
    programs: bool,
    problems: &mut Vec<Problem>,
) -> Option<SiteConfig> {
    let (layers, own) = (ground.layers, ground.own);
    let root = root(layers).map_err(|problem| problems.push(problem)).ok()?;
    let mut site = SiteConfig::files_only(root);
    for given in layers.all("cgi") {
        let mounted = mount(given).and_then(|mount| add(&mut site, mount, given));
        problems.extend(mounted.err());
    }
    tables.iter().for_each(|table| locations::mount(ground, &mut site, table, problems));
    for given in layers.all("cgi-env") {
        let unveiled = given.text.as_bytes();
        let place = Given { text: without_value(&given.text), origin: given.origin.clone() };
        let set = variable(unveiled, &place, own).and_then(|(prefix, var)| set(&mut site, prefix, var, &place));
        problems.extend(set.err());
    }
    if programs {
        mount_cgi_bin(&mut site);
    }
    for given in layers.all("cgi-pass-authorization") {
        problems.extend(pass_authorization(&mut site, given).err());
    }
    for (name, slot) in MOUNT_LIMITS {
        // What is said of one mount wins over what is said of all, wherever it stands.
        let (of_one, of_all): (Vec<_>, Vec<_>) =
            layers.all(name).iter().partition(|given| given.text.as_bytes().contains(&b'='));
        for given in of_all.into_iter().chain(of_one) {
            problems.extend(limit(&mut site, given, *slot).err());
        }
    }
    tables.iter().for_each(|table| locations::limit(ground, &mut site, table, problems));
    Some(site)
}

fn root(layers: &Layers) -> Result<PathBuf, Problem> {
    let Some(given) = layers.one("path") else {
        return started_in().map(Path::to_path_buf).map_err(|error| Problem {
            kind: ProblemKind::Configuration,
            place: String::from("DIR"),
            what: format!("none was given, and the current folder cannot be had: {error}"),
        });
    };
    let root = given.path(&given.text)?;
    match std::fs::metadata(&root) {
        Err(error) => Err(given.impossible(cause(&error))),
        Ok(facts) if !facts.is_dir() => Err(given.impossible("not a folder; give the folder that holds it")),
        Ok(_) if access(&root, Access::EXEC_OK).is_err() => {
            Err(given.impossible("permission denied; this user may not enter the folder"))
        }
        Ok(_) => Ok(root),
    }
}

/// `PREFIX=TARGET`.
fn mount(given: &Given) -> Result<MountConfig, Problem> {
    let bytes = given.text.as_bytes();
    let Some(equals) = bytes.iter().position(|&byte| byte == b'=') else {
        return Err(given.unreadable("needs PREFIX=TARGET, as in /git=/usr/lib/git-core/git-http-backend"));
    };
    let (before, after) = bytes.split_at(equals);
    let prefix = prefix(given, before)?;
    mount_at(given, prefix, OsStr::from_bytes(after.get(1..).unwrap_or_default()))
}

/// A program or a folder of them, at a prefix.
pub(super) fn mount_at(given: &Given, prefix: String, target: &OsStr) -> Result<MountConfig, Problem> {
    let target = given.path(target)?;
    let kind = match std::fs::metadata(&target) {
        Err(error) => return Err(given.impossible(cause(&error))),
        Ok(facts) if facts.is_dir() => MountKind::Folder,
        Ok(facts) if facts.is_file() => MountKind::Program,
        Ok(_) => return Err(given.impossible("neither a folder nor a program")),
    };
    if access(&target, Access::EXEC_OK).is_err() {
        return Err(given.impossible(match kind {
            MountKind::Folder => "permission denied; this user may not enter the folder",
            MountKind::Program => "not executable; chmod +x it",
        }));
    }
    Ok(MountConfig::new(prefix, target, kind))
}

/// Decoded, without a final slash; the form that a request's path is compared with.
pub(super) fn prefix(given: &Given, bytes: &[u8]) -> Result<String, Problem> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Err(given.unreadable("PREFIX is not UTF-8")) };
    let Some(rest) = text.strip_prefix('/') else {
        return Err(given.unreadable("PREFIX must begin with a slash, as in /git=TARGET"));
    };
    let path = rest.strip_suffix('/').unwrap_or(rest);
    if path.is_empty() {
        return Ok(String::new());
    }
    let bad_segment = |segment: &str| matches!(segment, "" | "." | "..");
    if path.split('/').any(bad_segment) {
        return Err(given.unreadable("PREFIX has an empty, . or .. segment; no request would ever match"));
    }
    if path.contains(|c: char| c.is_control() || matches!(c, '%' | '?' | '#' | '\\')) {
        return Err(given.unreadable("PREFIX is the decoded path: no % ? # \\ or control characters"));
    }
    Ok(format!("/{path}"))
}

pub(super) fn add(site: &mut SiteConfig, mount: MountConfig, given: &Given) -> Result<(), Problem> {
    if site.mounts.iter().any(|other| other.prefix == mount.prefix) {
        return Err(given.unreadable("PREFIX is mounted already; say it once"));
    }
    match inside(&site.root, &mount.target) {
        Some(path) if path.as_os_str().is_empty() && !mount.prefix.is_empty() => {
            return Err(
                given.impossible("TARGET is the served folder itself: its programs' source would be served too")
            );
        }
        Some(path) if !path.as_os_str().is_empty() && !site.hidden.contains(&path) => site.hidden.push(path),
        _ => {}
    }
    site.mounts.push(mount);
    Ok(())
}

/// Where below the root the target is, symlinks resolved on both sides.
fn inside(root: &Path, target: &Path) -> Option<PathBuf> {
    let (root, target) = (root.canonicalize().ok()?, target.canonicalize().ok()?);
    target.strip_prefix(root).ok().map(Path::to_path_buf)
}

/// Unless something else is mounted there, or it is not a folder.
fn mount_cgi_bin(site: &mut SiteConfig) {
    let (prefix, target) = (format!("/{CGI_BIN}"), site.root.join(CGI_BIN));
    if target.is_dir() && !site.mounts.iter().any(|mount| mount.prefix == prefix) {
        site.mounts.push(MountConfig::new(prefix, target, MountKind::Folder));
    }
}

/// The same site at another root: what was mounted from inside the old one is mounted from inside the new one, if it is there.
pub(crate) fn at_root(site: &SiteConfig, root: &Path, programs: bool) -> SiteConfig {
    let mut moved = SiteConfig { root: root.to_owned(), mounts: Vec::new(), ..site.clone() };
    for mount in &site.mounts {
        let target = match mount.target.strip_prefix(&site.root) {
            Ok(inside) => root.join(inside),
            Err(_) => mount.target.clone(),
        };
        let is_there = match mount.kind {
            MountKind::Folder => target.is_dir(),
            MountKind::Program => target.is_file(),
        };
        if is_there {
            moved.mounts.push(MountConfig { target, ..mount.clone() });
        }
    }
    if programs {
        mount_cgi_bin(&mut moved);
    }
    moved
}

/// What may be shown of a `--cgi-env`: its value may be a secret, and messages end in logs.
pub(crate) fn without_value(text: &OsStr) -> OsString {
    let name = text.as_bytes().split(|&byte| byte == b'=').next().unwrap_or_default();
    OsStr::from_bytes(name).to_owned()
}

/// `[PREFIX:]NAME[=VALUE]`; the prefix begins with a slash, a name cannot.
fn variable(bytes: &[u8], given: &Given, own: &[(OsString, OsString)]) -> Result<(Option<String>, EnvVar), Problem> {
    let equals = bytes.iter().position(|&byte| byte == b'=');
    let (before, value) = bytes.split_at(equals.unwrap_or(bytes.len()));
    let mut parts = before.rsplitn(2, |&byte| byte == b':' && before.starts_with(b"/"));
    let name = parts.next().unwrap_or_default();
    let mount = parts.next().map(|mount| prefix(given, mount)).transpose()?;
    let name = name_of(given, name)?;
    let value = match value.get(1..) {
        Some(value) => OsStr::from_bytes(value).to_owned(),
        None => match own.iter().find(|(own, _)| *own == *name) {
            Some((_, value)) => value.clone(),
            None => {
                return Err(
                    given.impossible(format!("{name} is not set here; write {name}=VALUE, or {name}= for empty"))
                );
            }
        },
    };
    if value.as_bytes().contains(&0) {
        return Err(given.unreadable("a NUL in the value"));
    }
    Ok((mount, EnvVar { name, value }))
}

fn name_of(given: &Given, name: &[u8]) -> Result<String, Problem> {
    let name = std::str::from_utf8(name).unwrap_or("");
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(given.unreadable("NAME must be letters, digits and underscores, as in GIT_PROJECT_ROOT=/srv/git"));
    }
    if name.starts_with("HTTP_") || RESERVED.contains(&name) {
        return Err(given.unreadable(format!("{name} says what the request is; only the server sets it")));
    }
    Ok(name.to_owned())
}

/// Meta-variables of RFC 3875 section 4.1 that tell about the request. (AUTH_TYPE, REMOTE_USER and REMOTE_IDENT may be set: a
/// proxy that has checked them is the usual reason. `HTTP_*` may not: HTTP_PROXY is the httpoxy hole.)
const RESERVED: [&str; 18] = [
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "GATEWAY_INTERFACE",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "REQUEST_METHOD",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
    "SERVER_ADDR",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    // Not of RFC 3875: how the processes that a request has started are found (docs/configuration.md).
    "UNIQUE_ID",
];

fn set(site: &mut SiteConfig, prefix: Option<String>, var: EnvVar, given: &Given) -> Result<(), Problem> {
    let list = match prefix {
        None => &mut site.cgi_env,
        Some(prefix) => {
            mount_automatic(site, &prefix);
            match site.mounts.iter_mut().find(|mount| mount.prefix == prefix) {
                Some(mount) => &mut mount.env,
                None => {
                    return Err(given.impossible(format!("nothing is mounted at {prefix}; add --cgi {prefix}=TARGET")));
                }
            }
        }
    };
    put(list, var, given)
}

fn put(list: &mut Vec<EnvVar>, var: EnvVar, given: &Given) -> Result<(), Problem> {
    if list.iter().any(|other| other.name == var.name) {
        return Err(given.unreadable(format!("{} is set already; say it once", var.name)));
    }
    list.push(var);
    Ok(())
}

/// `NAME[=VALUE]`, of one mount.
pub(super) fn set_of_mount(
    mount: &mut MountConfig,
    given: &Given,
    own: &[(OsString, OsString)],
) -> Result<(), Problem> {
    let place = Given { text: without_value(&given.text), origin: given.origin.clone() };
    match variable(given.text.as_bytes(), &place, own)? {
        (None, var) => put(&mut mount.env, var, &place),
        (Some(_), _) => Err(place.unreadable("NAME without a PREFIX: the location says where")),
    }
}

/// `PREFIX`, or `all`.
fn pass_authorization(site: &mut SiteConfig, given: &Given) -> Result<(), Problem> {
    let prefix = match given.text.as_bytes() {
        b"all" => None,
        text if text.starts_with(b"/") => Some(prefix(given, text)?),
        _ => return Err(given.unreadable("neither a PREFIX of --cgi, as in /git, nor all")),
    };
    mounts_at(site, prefix.as_deref(), given, |mount| mount.pass_authorization = true)
}

pub(super) type MountSlot = fn(&mut MountConfig) -> &mut Option<usize>;

/// What is bounded for one mount.
pub(super) const MOUNT_LIMITS: &[(&str, MountSlot)] = &[
    ("cgi-mount-running-max", |mount| &mut mount.running_max),
    ("cgi-mount-queued-max", |mount| &mut mount.queued_max),
];

/// `[PREFIX=]N`.
fn limit(site: &mut SiteConfig, given: &Given, slot: MountSlot) -> Result<(), Problem> {
    let text = given.str()?;
    let (prefix_text, number) = text.rsplit_once('=').map_or((None, text), |(prefix, number)| (Some(prefix), number));
    let number = places(given, number)?;
    let prefix = prefix_text.map(|text| prefix(given, text.as_bytes())).transpose()?;
    mounts_at(site, prefix.as_deref(), given, |mount| *slot(mount) = Some(number))
}

/// `N`
pub(super) fn places(given: &Given, number: &str) -> Result<usize, Problem> {
    match number.parse() {
        Ok(number @ 1..=MOUNT_LIMIT_MAX) => Ok(number),
        _ => Err(given.unreadable(format!("needs N or PREFIX=N, as in /git=4; 1 to {MOUNT_LIMIT_MAX}"))),
    }
}

const MOUNT_LIMIT_MAX: usize = 1_000_000;

/// Changes one mount, or all of them.
fn mounts_at(
    site: &mut SiteConfig,
    prefix: Option<&str>,
    given: &Given,
    change: impl Fn(&mut MountConfig),
) -> Result<(), Problem> {
    let Some(prefix) = prefix else {
        site.mounts.iter_mut().for_each(change);
        return Ok(());
    };
    mount_automatic(site, prefix);
    match site.mounts.iter_mut().find(|mount| mount.prefix == prefix) {
        Some(mount) => change(mount),
        None => return Err(given.impossible(format!("nothing is mounted at {prefix}; add --cgi {prefix}=TARGET"))),
    }
    Ok(())
}

/// A variable for `/cgi-bin` needs its mount before the others are known.
pub(super) fn mount_automatic(site: &mut SiteConfig, prefix: &str) {
    if prefix.strip_prefix('/') == Some(CGI_BIN) {
        mount_cgi_bin(site);
    }
}

pub(super) fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => String::from("no such file or folder; is the path relative to another folder?"),
        ErrorKind::PermissionDenied => String::from("permission denied on the way to it"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_what_cannot_be_set() {
        let page = include_str!("../../docs/configuration.md");
        for name in RESERVED.iter().chain(&["HTTP_*"]) {
            assert!(page.contains(&format!("`{name}`")), "docs/configuration.md lacks {name}");
        }
    }
}
