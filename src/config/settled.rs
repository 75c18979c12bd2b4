//! What was decided and where it was said, for `--explain`.

use ucaffeine::serve::options::Options;

use super::mounts::without_value;
use super::settings::{Group, SETTINGS, Setting, key};
use super::sources::{Given, Layer, Layers};
use super::tables::{AuthTable, Document, HostTable, LocationTable, Scope, is_of_programs, is_of_site};
use super::{LIMITS, locations};

/// One decision.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    /// As it would be written; several values are joined by a space.
    pub(crate) value: String,
    /// `default`, `--port`, `UCAFFEINE_PORT` or `site.toml:3`.
    pub(crate) origin: String,
}

/// What a table of the file comes to.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// `host` or `location`.
    pub(crate) kind: &'static str,
    /// Its names, or its pattern.
    pub(crate) title: String,
    pub(crate) origin: String,
    /// Key, value and origin. Of a host everything, of a location what it says.
    pub(crate) rows: Vec<(String, String, String)>,
    /// The locations of a host.
    pub(crate) parts: Vec<Part>,
}

/// Every setting and limit of the server and its default site.
pub(crate) fn settled(layers: &Layers, options: &mut Options) -> Vec<Settled> {
    let settings = SETTINGS.iter().map(|setting| {
        let (value, origin) = said(setting, layers);
        Settled { name: setting.name, group: setting.group, value, origin }
    });
    let limits = LIMITS.iter().map(|limit| Settled {
        name: limit.name,
        group: limit.group,
        value: limit.show(options),
        origin: layers.one(limit.name).map_or_else(|| "default".into(), |given| given.origin.to_string()),
    });
    settings.chain(limits).collect()
}

/// The tables: the locations of the default site, then the hosts.
pub(crate) fn parts(layers: &Layers, document: &Document) -> Vec<Part> {
    let hosts = document.hosts.iter().map(|host| of_host(host, layers));
    parts_of(&document.top, layers, layers).into_iter().chain(hosts).collect()
}

fn said(setting: &Setting, layers: &Layers) -> (String, String) {
    let given = layers.all(setting.name);
    match given.last() {
        Some(last) => (shown(setting.name, given), last.origin.to_string()),
        None => (setting.default.to_owned(), "default".into()),
    }
}

fn shown(name: &str, given: &[Given]) -> String {
    let one = |given: &Given| match name {
        "cgi-env" => without_value(&given.text).display().to_string(),
        _ => given.text.display().to_string(),
    };
    given.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn of_host(host: &HostTable, server: &Layers) -> Part {
    let own = Layers([Layer::default(), Layer::default(), host.scope.layer.clone()]);
    let of_site = SETTINGS.iter().filter(|setting| is_of_site(setting.name));
    let rows = of_site.map(|setting| {
        let (value, origin) = said(setting, &own);
        (key(setting.name), value, origin)
    });
    Part {
        kind: "host",
        title: host.names.iter().map(|name| name.text.display().to_string()).collect::<Vec<_>>().join(" "),
        origin: host.at.origin.to_string(),
        rows: rows.collect(),
        parts: parts_of(&host.scope, &own, server),
    }
}

fn parts_of(scope: &Scope, layers: &Layers, server: &Layers) -> Vec<Part> {
    let whole = scope.auth.as_ref().map(|auth| Part {
        kind: "location",
        title: "/".into(),
        origin: of_auth(auth).2,
        rows: vec![of_auth(auth)],
        parts: Vec::new(),
    });
    let each = scope.locations.iter().map(|table| of_location(table, layers, server));
    whole.into_iter().chain(each).collect()
}

fn of_location(table: &LocationTable, layers: &Layers, server: &Layers) -> Part {
    let row = |name: &'static str| {
        let stronger = match is_of_programs(name) {
            _ if layers.is_overruled(name) => Some(layers),
            true if server.is_overruled(name) => Some(server),
            _ => None,
        };
        // Rules of all sources add up; of everything else, what a flag or variable says holds here, too.
        let is_list = matches!(name, "header" | "cache-control" | "cgi");
        let given = stronger.filter(|_| !is_list).map_or(table.layer.all(name), |layers| layers.all(name));
        let origin = given.last().map_or_else(String::new, |given| given.origin.to_string());
        (key(name), shown(name, given), origin)
    };
    Part {
        kind: "location",
        title: table.pattern.text.display().to_string(),
        origin: table.pattern.origin.to_string(),
        rows: table.layer.names().map(row).chain(table.auth.as_ref().map(of_auth)).collect(),
        parts: Vec::new(),
    }
}

fn of_auth(auth: &AuthTable) -> (String, String, String) {
    let (value, at) = match auth {
        AuthTable::Off(at) => ("nobody is asked".to_owned(), at),
        AuthTable::On { at, htpasswd, realm } => {
            let text = |given: &Option<Given>, default: &str| {
                given.as_ref().map_or_else(|| default.to_owned(), |given| given.text.display().to_string())
            };
            (format!("{} (realm {:?})", text(htpasswd, ""), text(realm, locations::REALM_DEFAULT)), at)
        }
    };
    ("auth".into(), value, at.origin.to_string())
}
