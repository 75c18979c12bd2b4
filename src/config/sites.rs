//! `[[host]]`, and the site that answers for every other host: from what was said to the sites that are served.

use std::ffi::OsString;
use std::path::PathBuf;

use ucaffeine::serve::options::{CgiOptions, SiteConfig};
use ucaffeine::site::host::parse_name;

use super::locations::{self, Ground};
use super::problem::Problem;
use super::sources::{Given, Layer, Layers, Origin};
use super::tables::{Document, HostTable, Scope};
use super::{decide, headers, mounts, pages, switch};

/// The sites, the default one first. `cgi` is how programs are run where nothing else is said.
pub(crate) fn sites(
    layers: &Layers,
    document: &Document,
    cgi: &CgiOptions,
    own: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
) -> Vec<SiteConfig> {
    let programs = !decide(layers, "no-cgi", false, switch, problems);
    if let Some(first) = document.hosts.first().filter(|_| layers.one("path").is_none()) {
        problems.push(first.at.impossible(
            "no path at the top of the file: say there which folder hosts get that have no table of their own",
        ));
        return Vec::new();
    }
    let ground = Ground { server: layers, layers, cgi, own };
    let mut sites: Vec<SiteConfig> = site(&ground, &document.top, programs, problems).into_iter().collect();
    let mut names: Vec<(String, &Given)> = Vec::new();
    for host in &document.hosts {
        let own_names = host_names(host, &mut names, problems);
        let layers = Layers([Layer::default(), Layer::default(), host.scope.layer.clone()]);
        if layers.one("path").is_none() {
            problems.push(
                host.at.impossible("needs path = \"FOLDER\", which it serves; a host has nothing of the default site"),
            );
            continue;
        }
        let ground = Ground { server: ground.server, layers: &layers, cgi, own };
        let programs = programs && !decide(&layers, "no-cgi", false, switch, problems);
        let site = site(&ground, &host.scope, programs, problems);
        sites.extend(site.map(|site| SiteConfig { names: own_names, ..site }));
    }
    let roots: Vec<PathBuf> = sites.iter().filter_map(|site| site.root.canonicalize().ok()).collect();
    for scope in scopes(document) {
        problems.extend(locations::exposed(scope, &roots));
    }
    sites
}

/// Everything that is said about a site, the default one first.
pub(crate) fn scopes(document: &Document) -> impl Iterator<Item = &Scope> {
    std::iter::once(&document.top).chain(document.hosts.iter().map(|host| &host.scope))
}

fn site(ground: &Ground<'_>, scope: &Scope, programs: bool, problems: &mut Vec<Problem>) -> Option<SiteConfig> {
    let layers = ground.layers;
    let headers = headers::rules(layers, &scope.locations, problems);
    let precompressed = !decide(layers, "no-precompressed", false, switch, problems);
    let mut site = mounts::site(ground, &scope.locations, programs, problems)?;
    site.pages = pages::pages(layers, &site, problems);
    site.locations = locations::locations(ground, &site, scope, problems);
    if !programs {
        // What the mounts would have run stays hidden.
        site.mounts.clear();
        site.cgi_env.clear();
    }
    Some(SiteConfig { precompressed, headers, ..site })
}

/// The names of a host; no other has one of them.
fn host_names<'h>(
    host: &'h HostTable,
    taken: &mut Vec<(String, &'h Given)>,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    if host.names.is_empty() {
        problems.push(host.at.impossible("needs names, as in names = [\"example.org\", \"*.example.org\"]"));
    }
    let mut names = Vec::new();
    for given in &host.names {
        let name = match given.str().and_then(|text| parse_name(text).map_err(|what| given.unreadable(what))) {
            Ok(name) => name,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match taken.iter().find(|(other, _)| *other == name) {
            Some((_, first)) => {
                let line = match &first.origin {
                    Origin::File { line, .. } => *line,
                    Origin::Flag(_) | Origin::Variable(_) => 0,
                };
                problems.push(given.unreadable(format!("line {line} says it already; one host has a name")));
            }
            None => {
                taken.push((name.clone(), given));
                names.push(name);
            }
        }
    }
    names
}
