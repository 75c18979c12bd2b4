//! `--listing`, `--clean-urls`, `--spa-fallback` and `--error-page`: what a site answers with besides its files.

use std::path::Path;

use ucaffeine::http::status::Status;
use ucaffeine::serve::options::SiteConfig;
use ucaffeine::site::pages::{ErrorPage, Pages, Statuses};

use super::problem::Problem;
use super::sources::{Given, Layers};
use super::{decide, switch};

/// The pages of a site whose mounts are known: none of its programs is a page.
pub(crate) fn pages(layers: &Layers, site: &SiteConfig, problems: &mut Vec<Problem>) -> Pages {
    let mut pages = Pages {
        listing: decide(layers, "listing", false, switch, problems),
        clean_urls: decide(layers, "clean-urls", false, switch, problems),
        ..Pages::default()
    };
    if let Some(given) = layers.one("spa-fallback") {
        match given.str().and_then(|text| file(given, text, site)) {
            Ok(path) => pages.spa_fallback = Some(path),
            Err(problem) => problems.push(problem),
        }
    }
    for given in layers.all("error-page") {
        let added = error_page(given, site).and_then(|page| add(&mut pages.error_pages, page, given));
        problems.extend(added.err());
    }
    pages
}

/// `STATUS=PATH`.
pub(super) fn error_page(given: &Given, site: &SiteConfig) -> Result<ErrorPage, Problem> {
    let Some((status, path)) = given.str()?.split_once('=') else {
        return Err(given.unreadable("needs STATUS=PATH, as in 404=/404.html or 5xx=/sorry.html"));
    };
    Ok(ErrorPage { statuses: statuses(given, status)?, path: file(given, path, site)? })
}

fn statuses(given: &Given, text: &str) -> Result<Statuses, Problem> {
    let only = || {
        let code = text.parse().ok().filter(|code| (400..600).contains(code))?;
        Status::from_code(code).map(Statuses::Only)
    };
    let statuses = match text {
        "4xx" => Some(Statuses::Class(4)),
        "5xx" => Some(Statuses::Class(5)),
        _ if text.len() == 3 => only(),
        _ => None,
    };
    statuses.ok_or_else(|| given.unreadable("STATUS is 400 to 599, 4xx or 5xx"))
}

/// Where a file of the site is, as a request would name it if nothing in it had to be encoded; relative to the root.
pub(super) fn file(given: &Given, text: &str, site: &SiteConfig) -> Result<String, Problem> {
    let Some(path) = text.strip_prefix('/') else {
        return Err(given.unreadable("PATH is that of a file inside DIR and begins with a slash, as in /404.html"));
    };
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(given.unreadable("PATH has an empty, . or .. segment; it names a file"));
    }
    if path.contains(|c: char| c.is_control() || matches!(c, '%' | '?' | '#' | '\\')) {
        return Err(given.unreadable("PATH is the decoded path: no % ? # \\ or control characters"));
    }
    let is_below = |other: &Path| Path::new(path).starts_with(other);
    let mounts = site.mounts.iter().map(|mount| Path::new(mount.prefix.trim_start_matches('/')));
    match mounts.chain(site.hidden.iter().map(|hidden| hidden.as_path())).any(is_below) {
        true => Err(given.impossible("programs are there, and their source is never sent")),
        false => Ok(path.to_owned()),
    }
}

pub(super) fn add(pages: &mut Vec<ErrorPage>, page: ErrorPage, given: &Given) -> Result<(), Problem> {
    if pages.iter().any(|other| other.statuses == page.statuses) {
        return Err(given.unreadable("STATUS has a page already; say it once"));
    }
    pages.push(page);
    Ok(())
}
