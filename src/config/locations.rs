//! `[[location]]` and `[auth]`: what is different for some paths of a site.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use ucaffeine::serve::options::{CgiOptions, MountConfig, Options, SiteConfig, USERS_BYTES_MAX};
use ucaffeine::site::auth::Guard;
use ucaffeine::site::htpasswd::Users;
use ucaffeine::site::location::{Access, Location};
use ucaffeine::site::pattern::Pattern;

use super::problem::{Problem, ProblemKind};
use super::sources::{Given, Layer, Layers};
use super::tables::{AuthTable, LocationTable, Scope, is_of_programs, limits_of_programs};
use super::{mounts, pages, programs, switch};

/// The realm, where none is said: what a browser shows to whom it asks.
pub(crate) const REALM_DEFAULT: &str = "Restricted";
/// Of a file of users, so many mistakes are told.
const MISTAKES_MAX: usize = 10;

/// What a site's tables are read against.
pub(crate) struct Ground<'a> {
    /// What was said about the server and its default site.
    pub(crate) server: &'a Layers,
    /// What was said about this site.
    pub(crate) layers: &'a Layers,
    /// How programs are run where nothing else is said.
    pub(crate) cgi: &'a CgiOptions,
    /// The server's environment, for `cgi_env = ["NAME"]`.
    pub(crate) own: &'a [(OsString, OsString)],
}

impl Ground<'_> {
    /// Whether a flag or variable says it: that beats every table of the file.
    pub(crate) fn overruled(&self, name: &str) -> bool {
        self.layers.is_overruled(name) || is_of_programs(name) && self.server.is_overruled(name)
    }

    fn one<'l>(&self, layer: &'l Layer, name: &str) -> Option<&'l Given> {
        layer.last(name).filter(|_| !self.overruled(name))
    }

    fn all<'l>(&self, layer: &'l Layer, name: &str) -> &'l [Given] {
        if self.overruled(name) { &[] } else { layer.all(name) }
    }
}

/// The locations of a site whose mounts are known; that of `[auth]` is the first, so that all others beat it.
pub(crate) fn locations(
    ground: &Ground<'_>,
    site: &SiteConfig,
    scope: &Scope,
    problems: &mut Vec<Problem>,
) -> Vec<Location> {
    let mut all = Vec::new();
    if let Some(access) = scope.auth.as_ref().and_then(|auth| access(auth, problems))
        && let Ok(everything) = Pattern::parse("/")
    {
        all.push(Location { access: Some(access), ..Location::new(everything) });
    }
    all.extend(scope.locations.iter().filter_map(|table| location(ground, site, table, problems)));
    all
}

fn location(
    ground: &Ground<'_>,
    site: &SiteConfig,
    table: &LocationTable,
    problems: &mut Vec<Problem>,
) -> Option<Location> {
    let read = table.pattern.str().and_then(|text| Pattern::parse(text).map_err(|what| table.pattern.unreadable(what)));
    let mut location = Location::new(note(read, problems)?);
    let mut yes_or_no = |name| note(switch(ground.one(&table.layer, name)?), problems);
    (location.listing, location.clean_urls) = (yes_or_no("listing"), yes_or_no("clean-urls"));
    if let Some(given) = ground.one(&table.layer, "spa-fallback") {
        let file = given.str().and_then(|text| match text {
            "none" => Ok(None),
            text => pages::file(given, text, site).map(Some),
        });
        location.spa_fallback = note(file, problems);
    }
    for given in ground.all(&table.layer, "error-page") {
        let added = pages::error_page(given, site).and_then(|page| pages::add(&mut location.error_pages, page, given));
        problems.extend(added.err());
    }
    location.access = table.auth.as_ref().and_then(|auth| access(auth, problems));
    Some(location)
}

fn note<T>(read: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}

/// `[auth]`; a file of users with a mistake in it is a problem, and so is one that is not there.
fn access(auth: &AuthTable, problems: &mut Vec<Problem>) -> Option<Access> {
    let (htpasswd, realm) = match auth {
        AuthTable::Off(_) => return Some(Access::Open),
        AuthTable::On { htpasswd, realm, .. } => (htpasswd.as_ref()?, realm.as_ref()),
    };
    let path = note(htpasswd.path(&htpasswd.text), problems)?;
    for problem in users_of(&path, htpasswd) {
        // Several locations may share a file.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    let guard = realm
        .map_or(Ok(REALM_DEFAULT), Given::str)
        .and_then(|text| Guard::new(text, path).map_err(|what| realm.unwrap_or(htpasswd).unreadable(what)));
    note(guard, problems).map(Access::Guarded)
}

/// What is wrong with a file of users.
fn users_of(path: &Path, given: &Given) -> Vec<Problem> {
    let text = match read_users(path) {
        Ok(text) => text,
        Err(what) => return vec![given.impossible(what)],
    };
    let problem = |line: usize, column: usize, what: String| {
        let place = format!("{}:{line}:{column}", path.display());
        Problem { kind: ProblemKind::Configuration, place, what }
    };
    let (_, mistakes) = Users::parse(&text);
    mistakes.into_iter().take(MISTAKES_MAX).map(|found| problem(found.line, found.column, found.what)).collect()
}

fn read_users(path: &Path) -> Result<String, String> {
    let facts = std::fs::metadata(path).map_err(|error| mounts::cause(&error))?;
    if !facts.is_file() {
        return Err("not a file; htpasswd -B -c FILE NAME makes one".into());
    }
    if facts.len() > USERS_BYTES_MAX {
        return Err(format!("longer than {USERS_BYTES_MAX} bytes; is it a file of users?"));
    }
    let read = || {
        let mut text = Vec::new();
        std::fs::File::open(path)?.take(USERS_BYTES_MAX).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let bytes = read().map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => "permission denied; the server's user must be able to read it".into(),
        _ => error.to_string(),
    })?;
    String::from_utf8(bytes).map_err(|_| "not UTF-8; names are UTF-8 here, as browsers send them".into())
}

/// A file of users that whoever asks could have: nothing may lie below a folder that is served.
pub(crate) fn exposed(scope: &Scope, roots: &[PathBuf]) -> Vec<Problem> {
    let tables = scope.auth.iter().chain(scope.locations.iter().filter_map(|table| table.auth.as_ref()));
    let exposed = |auth: &AuthTable| {
        let AuthTable::On { htpasswd: Some(given), .. } = auth else { return None };
        let path = given.path(&given.text).ok()?.canonicalize().ok().filter(|path| path.is_file())?;
        let root = roots.iter().find(|root| path.starts_with(root))?;
        Some(given.impossible(format!("it lies inside of the served folder {}; move it out of there", root.display())))
    };
    tables.filter_map(exposed).collect()
}

/// What the tables say about programs: more mounts, and how the programs of a mount are run.
pub(crate) fn mount(ground: &Ground<'_>, site: &mut SiteConfig, table: &LocationTable, problems: &mut Vec<Problem>) {
    let Some(target) = table.layer.last("cgi") else { return };
    let mounted = prefix(&table.pattern).and_then(|prefix| {
        // A flag or variable has mounted something else there.
        let is_taken = ground.overruled("cgi") && site.mounts.iter().any(|mount| mount.prefix == prefix);
        match is_taken {
            true => Ok(()),
            false => mounts::mount_at(target, prefix, &target.text).and_then(|mount| mounts::add(site, mount, target)),
        }
    });
    problems.extend(mounted.err());
}

/// The mount that a location is about.
fn prefix(pattern: &Given) -> Result<String, Problem> {
    let text = pattern.str()?;
    if !text.ends_with('/') || text.contains('*') {
        return Err(
            pattern.unreadable("programs are mounted at a folder: write it with a slash at its end and without stars")
        );
    }
    mounts::prefix(pattern, text.as_bytes())
}

/// When all mounts are there: what is said about the programs of one.
pub(crate) fn limit(ground: &Ground<'_>, site: &mut SiteConfig, table: &LocationTable, problems: &mut Vec<Problem>) {
    const OF_MOUNT: &[&str] = &["cgi-env", "cgi-pass-authorization", "cgi-mount-running-max", "cgi-mount-queued-max"];
    let said = table.layer.names().find(|name| is_of_programs(name) || OF_MOUNT.contains(name));
    let Some(said) = said.and_then(|name| table.layer.last(name)) else { return };
    let Some(prefix) = note(prefix(&table.pattern), problems) else { return };
    mounts::mount_automatic(site, &prefix);
    let Some(mount) = site.mounts.iter_mut().find(|mount| mount.prefix == prefix) else {
        // Its own program is a problem already, or was not there to be mounted.
        if table.layer.last("cgi").is_none() {
            let place = Given { text: mounts::without_value(&said.text), origin: said.origin.clone() };
            problems.push(place.impossible(format!("nothing is mounted at {prefix}/; add cgi = \"TARGET\"")));
        }
        return;
    };
    for given in ground.all(&table.layer, "cgi-env") {
        problems.extend(mounts::set_of_mount(mount, given, ground.own).err());
    }
    if let Some(given) = ground.one(&table.layer, "cgi-pass-authorization") {
        mount.pass_authorization = note(switch(given), problems).unwrap_or(mount.pass_authorization);
    }
    for (name, slot) in mounts::MOUNT_LIMITS {
        if let Some(given) = ground.one(&table.layer, name) {
            let number = given.str().and_then(|text| mounts::places(given, text));
            *slot(mount) = note(number, problems).or(*slot(mount));
        }
    }
    bound(ground, mount, &table.layer, problems);
}

/// Deadlines, sizes and resources.
fn bound(ground: &Ground<'_>, mount: &mut MountConfig, layer: &Layer, problems: &mut Vec<Problem>) {
    let mut options = Options { cgi: mount.cgi.as_deref().unwrap_or(ground.cgi).clone(), ..Options::default() };
    for limit in limits_of_programs() {
        let Some(given) = ground.one(layer, limit.name) else { continue };
        let set = given.str().and_then(|text| limit.set(&mut options, text).map_err(|what| given.unreadable(what)));
        problems.extend(set.err());
    }
    let mut cgi = options.cgi;
    if let Some(given) = ground.one(layer, "cgi-linger") {
        cgi.linger = note(programs::linger(given), problems).unwrap_or(cgi.linger);
    }
    if let Some(given) = ground.one(layer, "cgi-nice") {
        cgi.bounds.nice = note(programs::nice(given), problems).flatten();
    }
    if let Some(given) = ground.one(layer, "cgi-umask") {
        cgi.bounds.umask = note(programs::umask(given), problems).flatten();
    }
    if let Some(given) = ground.one(layer, "cgi-user") {
        cgi.bounds.user = note(programs::user(given), problems).flatten();
    }
    if cgi != *ground.cgi {
        mount.cgi = Some(Box::new(cgi));
    }
}
