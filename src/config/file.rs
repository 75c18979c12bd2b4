//! The configuration file: TOML, one key per flag, read into the same text that a flag would have had.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::{Problem, ProblemKind, did_you_mean};
use super::settings;
use super::sources::{Given, Layer, Origin, started_in};
use super::tables::{AuthTable, Document, HostTable, Level, LocationTable, Scope};

/// No configuration is longer; a device that never ends is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and parses. Every mistake is a problem of its own; what is not one is in the document all the same, so that what it
/// says can be judged, too.
pub(crate) fn read(path: &Path, problems: &mut Vec<Problem>) -> Document {
    match text(path) {
        Ok(text) => parse(path, &text, problems),
        Err(problem) => {
            problems.push(problem);
            Document::default()
        }
    }
}

fn text(path: &Path) -> Result<String, Problem> {
    let name = || path.display().to_string();
    let unreadable = |error: std::io::Error| {
        let cause = match error.kind() {
            ErrorKind::IsADirectory => String::from("it is a folder; name the file in it"),
            ErrorKind::PermissionDenied => String::from("permission denied; this user may not read it"),
            _ => error.to_string(),
        };
        problem(name(), format!("cannot be read: {cause}"))
    };
    // Whatever folder this process is in by now.
    let at = started_in().map_or_else(|_| path.to_owned(), |folder| folder.join(path));
    let file = std::fs::File::open(at).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(problem(name(), format!("longer than {FILE_BYTES_MAX} bytes; is it the configuration?")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let (line, column) = position(&String::from_utf8_lossy(before), before.len());
        problem(format!("{}:{line}:{column}", path.display()), "not valid UTF-8; save the file as UTF-8".into())
    })?;
    match text.trim().is_empty() {
        true => Err(problem(name(), "empty; leave --config away where there is nothing to say".into())),
        false => Ok(text),
    }
}

fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Document {
    let mut file = File { path: path.into(), text, problems };
    let mut document = Document::default();
    match DeTable::parse(text) {
        Ok(table) => file.top(table.get_ref(), &mut document),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            file.refuse(start, &format!("not TOML: {what}"));
        }
    }
    document
}

/// A file while it is read.
struct File<'t> {
    path: Rc<Path>,
    text: &'t str,
    problems: &'t mut Vec<Problem>,
}

type Value<'t> = Spanned<DeValue<'t>>;

impl File<'_> {
    fn top(&mut self, table: &DeTable<'_>, document: &mut Document) {
        for (key, value) in table {
            match &**key.get_ref() {
                "host" => self.each_table("host", value, |file, table, at| {
                    let host = file.host(table, at);
                    document.hosts.push(host);
                }),
                _ => self.of_site(Level::Top, key, value, &mut document.top),
            }
        }
    }

    fn host(&mut self, table: &DeTable<'_>, at: usize) -> HostTable {
        let at = self.given("[[host]]", at, String::new());
        let mut host = HostTable { at, names: Vec::new(), scope: Scope::default() };
        for (key, value) in table {
            match &**key.get_ref() {
                "names" => host.names = self.texts("names", value),
                _ => self.of_site(Level::Host, key, value, &mut host.scope),
            }
        }
        host
    }

    /// What the top of a file and a host have in common.
    fn of_site(
        &mut self,
        level: Level,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Value<'_>,
        scope: &mut Scope,
    ) {
        match &**key.get_ref() {
            "auth" => scope.auth = self.auth(value),
            "location" => self.each_table("location", value, |file, table, at| {
                let location = file.location(table, at);
                scope.locations.extend(location);
            }),
            _ => self.setting(level, key, value, &mut scope.layer),
        }
    }

    fn location(&mut self, table: &DeTable<'_>, at: usize) -> Option<LocationTable> {
        let (mut layer, mut auth, mut pattern) = (Layer::default(), None, None);
        for (key, value) in table {
            match &**key.get_ref() {
                "auth" => auth = self.auth(value),
                "pattern" => pattern = self.text_of("pattern", value),
                _ => self.setting(Level::Location, key, value, &mut layer),
            }
        }
        if pattern.is_none() && !table.contains_key("pattern") {
            self.refuse(at, "location: needs a pattern, as in pattern = \"/private/\"");
        }
        Some(LocationTable { pattern: pattern?, layer, auth })
    }

    fn auth(&mut self, value: &Value<'_>) -> Option<AuthTable> {
        let at = self.given("[auth]", value.span().start, String::new());
        let table = match value.get_ref() {
            DeValue::Boolean(false) => return Some(AuthTable::Off(at)),
            DeValue::Table(table) => table,
            _ => {
                self.refuse(value.span().start, "auth: needs a table with htpasswd = \"FILE\", or false");
                return None;
            }
        };
        let (mut htpasswd, mut realm) = (None, None);
        for (key, value) in table {
            match &**key.get_ref() {
                "htpasswd" => htpasswd = self.text_of("htpasswd", value),
                "realm" => realm = self.text_of("realm", value),
                written => {
                    let hint = did_you_mean(written, ["htpasswd", "realm"].map(String::from).into_iter());
                    self.refuse(key.span().start, &format!("unknown key {written} in auth{hint}"));
                }
            }
        }
        if !table.contains_key("htpasswd") {
            self.refuse(value.span().start, "auth: needs htpasswd = \"FILE\"; htpasswd -B -c FILE NAME makes one");
        }
        Some(AuthTable::On { at, htpasswd, realm })
    }

    fn each_table(&mut self, key: &str, value: &Value<'_>, mut each: impl FnMut(&mut Self, &DeTable<'_>, usize)) {
        let wrong = format!("{key}: needs tables: write [[{key}]], with two brackets, above the keys of each");
        let DeValue::Array(tables) = value.get_ref() else { return self.refuse(value.span().start, &wrong) };
        for value in tables.iter() {
            match value.get_ref() {
                DeValue::Table(table) => each(self, table, value.span().start),
                _ => self.refuse(value.span().start, &wrong),
            }
        }
    }

    fn setting(
        &mut self,
        level: Level,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Value<'_>,
        layer: &mut Layer,
    ) {
        let (written, at): (&str, usize) = (key.get_ref(), key.span().start);
        match settings::names().find(|name| settings::key(name) == written) {
            Some(name) if level.has(name) => self.value(level, name, value, layer),
            Some(name) => self.refuse(at, &format!("{written} {}", level.misplaced(name))),
            None => self.unknown(level, at, written),
        }
    }

    fn unknown(&mut self, level: Level, at: usize, written: &str) {
        let hint = match (level, written) {
            (_, "config" | "explain") => String::from("; it is for the command line only"),
            (Level::Top, "workers") => String::from("; did you mean cores?"),
            (Level::Top, "names") => String::from("; it is for a [[host]]"),
            (Level::Top | Level::Host, "pattern") => String::from("; it is for a [[location]]"),
            (Level::Host, "host") => String::from("; hosts stand at the top, as [[host]]"),
            (Level::Host, "name") => String::from("; did you mean names?"),
            (Level::Location, "location") => {
                String::from("; one location holds no other, and the last that fits counts")
            }
            _ => did_you_mean(written, level.keys()),
        };
        let place = match level {
            Level::Top => "",
            Level::Host => " in a host",
            Level::Location => " in a location",
        };
        self.refuse(at, &format!("unknown key {written}{place}{hint}"));
    }

    fn value(&mut self, level: Level, name: &'static str, value: &Value<'_>, layer: &mut Layer) {
        let is_one = level == Level::Location && matches!(name, "cgi" | "cache-control");
        match value.get_ref() {
            DeValue::Array(values) if settings::is_list(name) && !is_one => {
                for value in values.iter() {
                    self.scalar(name, "", value, layer);
                }
            }
            DeValue::Table(table) if level == Level::Location && name == "header" => {
                for (key, value) in table {
                    self.scalar(name, &format!("{}: ", key.get_ref()), value, layer);
                }
            }
            DeValue::Table(table) if settings::is_pairs(name) && !is_one => self.pairs(level, name, "", table, layer),
            _ => self.scalar(name, "", value, layer),
        }
    }

    /// `[cgi]`, `[cgi_env]`, `[error_page]` and their like: a key and its value are what stands before and after `=` in the flag. A table in
    /// `[cgi_env]` is for one mount: its key is what stands before `:`.
    fn pairs(&mut self, level: Level, name: &'static str, mount: &str, table: &DeTable<'_>, layer: &mut Layer) {
        for (key, value) in table {
            match value.get_ref() {
                DeValue::Table(inner) if name == "cgi-env" && mount.is_empty() && level != Level::Location => {
                    self.pairs(level, name, &format!("{}:", key.get_ref()), inner, layer);
                }
                _ => self.scalar(name, &format!("{mount}{}=", key.get_ref()), value, layer),
            }
        }
    }

    fn scalar(&mut self, name: &'static str, before: &str, value: &Value<'_>, layer: &mut Layer) {
        let at = value.span().start;
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            // 027 is no TOML, and 0o27 would arrive as 23.
            DeValue::Integer(_) if name == "cgi-umask" => {
                return self.refuse(at, "cgi_umask: write the octal digits as a string, as in '027'");
            }
            DeValue::Integer(integer) => decimal(integer),
            DeValue::Boolean(boolean) => Some(boolean.to_string()),
            _ => None,
        };
        match text {
            Some(text) => layer.add(name, self.given(&settings::key(name), at, format!("{before}{text}"))),
            None => self.wrong_kind(&settings::key(name), value),
        }
    }

    /// A text, or several in a list.
    fn texts(&mut self, key: &str, value: &Value<'_>) -> Vec<Given> {
        match value.get_ref() {
            DeValue::Array(values) => values.iter().filter_map(|value| self.text_of(key, value)).collect(),
            _ => self.text_of(key, value).into_iter().collect(),
        }
    }

    fn text_of(&mut self, key: &str, value: &Value<'_>) -> Option<Given> {
        match value.get_ref() {
            DeValue::String(text) => Some(self.given(key, value.span().start, text.to_string())),
            _ => {
                self.wrong_kind(key, value);
                None
            }
        }
    }

    fn wrong_kind(&mut self, key: &str, value: &Value<'_>) {
        self.refuse(value.span().start, &format!("{key}: {} cannot stand here", value.get_ref().type_str()));
    }

    fn given(&self, key: &str, at: usize, text: String) -> Given {
        let (line, column) = position(self.text, at);
        let origin = Origin::File { path: self.path.clone(), line, column, key: key.to_owned() };
        Given { text: OsString::from(text), origin }
    }

    fn refuse(&mut self, at: usize, what: &str) {
        let (line, column) = position(self.text, at);
        self.problems.push(problem(format!("{}:{line}:{column}", self.path.display()), what.to_owned()));
    }
}

/// `0x10` and `1_000` become what a flag would have said.
fn decimal(integer: &DeInteger<'_>) -> Option<String> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
}

fn problem(place: String, what: String) -> Problem {
    Problem { kind: ProblemKind::Configuration, place, what }
}

/// Line and column of a byte, both from 1, as editors count.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::super::sources::Layers;
    use super::*;

    fn all(text: &str, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let document = parse(Path::new("/etc/site.toml"), text, &mut problems);
        assert_eq!(problems, []);
        let layers = Layers([document.top.layer, Layer::default(), Layer::default()]);
        layers.all(name).iter().map(|given| given.text.display().to_string()).collect()
    }

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        parse(Path::new("site.toml"), text, &mut problems);
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn values_become_the_text_of_a_flag() {
        assert_eq!(all("port = 8_081", "port"), ["8081"]);
        assert_eq!(all("port = 0x10", "port"), ["16"]);
        assert_eq!(all("head_bytes_max = '64KiB'", "head-bytes-max"), ["64KiB"]);
        assert_eq!(all("no_cgi = true", "no-cgi"), ["true"]);
        assert_eq!(all("bind = ['::1', 'unix:/x']", "bind"), ["::1", "unix:/x"]);
        assert_eq!(all("bind = '::1'", "bind"), ["::1"]);
        assert_eq!(all("[cgi]\n'/git' = '/usr/lib/x'", "cgi"), ["/git=/usr/lib/x"]);
        let environment = "[cgi_env]\nA = 'b'\n[cgi_env.'/git']\nC = 1\n";
        assert_eq!(all(environment, "cgi-env"), ["/git:C=1", "A=b"]);
        assert_eq!(all("cgi_env = ['A', 'B=c']", "cgi-env"), ["A", "B=c"]);
        assert_eq!(all("[cgi_mount_running_max]\n'/git' = 4", "cgi-mount-running-max"), ["/git=4"]);
        assert_eq!(all("cgi_mount_running_max = 4", "cgi-mount-running-max"), ["4"]);
    }

    #[test]
    fn mistakes_have_a_line_a_column_and_a_suggestion() {
        let table = [
            ("\nprot = 1", "site.toml:2:1: unknown key prot; did you mean port?"),
            ("head-bytes-max = 1", "site.toml:1:1: unknown key head-bytes-max; did you mean head_bytes_max?"),
            ("config = 'x'", "site.toml:1:1: unknown key config; it is for the command line only"),
            ("workers = 2", "site.toml:1:1: unknown key workers; did you mean cores?"),
            ("port = 1.5", "site.toml:1:8: port: float cannot stand here"),
            ("cgi_umask = 0o27", "site.toml:1:13: cgi_umask: write the octal digits as a string, as in '027'"),
            ("port = [1]", "site.toml:1:8: port: array cannot stand here"),
            ("[cgi]\n'/a' = ['b']", "site.toml:2:8: cgi: array cannot stand here"),
            ("[server]\nport = 1", "site.toml:1:2: unknown key server"),
            (
                "[[host]]\nport = 1",
                "site.toml:2:1: port is about the whole server; say it above the first table of the file",
            ),
            ("[[host]]\nlisitng = true", "site.toml:2:1: unknown key lisitng in a host; did you mean listing?"),
            ("[[host]]\nname = 'a'", "site.toml:2:1: unknown key name in a host; did you mean names?"),
            ("names = ['a']", "site.toml:1:1: unknown key names; it is for a [[host]]"),
            ("[[host]]\nnames = [1]", "site.toml:2:10: names: integer cannot stand here"),
            (
                "[[location]]\n  listing = true",
                "site.toml:1:1: location: needs a pattern, as in pattern = \"/private/\"",
            ),
            (
                "[[location]]\npattern = '/a'\npath = '/x'",
                "site.toml:3:1: path is about a whole site; say it above the [[location]], at the top of the file or of \
                 the [[host]]",
            ),
            (
                "[[host]]\n[[host.location]]\npattern = '/a'\n[host.location.auth]\nhtpaswd = 'x'\nhtpasswd = 'y'",
                "site.toml:5:1: unknown key htpaswd in auth; did you mean htpasswd?",
            ),
            (
                "[auth]\nrealm = 'x'",
                "site.toml:1:1: auth: needs htpasswd = \"FILE\"; htpasswd -B -c FILE NAME makes one",
            ),
            ("auth = true", "site.toml:1:8: auth: needs a table with htpasswd = \"FILE\", or false"),
            (
                "[host]\nnames = ['a']",
                "site.toml:1:1: host: needs tables: write [[host]], with two brackets, above the keys of each",
            ),
        ];
        for (text, want) in table {
            assert_eq!(problems(text), [want], "{text}");
        }
        let broken = problems("port = 1\nport = 2\n");
        assert!(broken[0].starts_with("site.toml:2:1: not TOML: duplicate key"), "{broken:?}");
        assert_eq!(problems("a = 1\nb = 2").len(), 2, "every mistake is told at once");
    }

    #[test]
    fn tables_hold_what_is_said_of_hosts_and_paths() {
        let text = "port = 1\n[[location]]\npattern = '/a/'\nheader = { X-A = 'b', X-B = 'c' }\nauth = false\n\
            [[host]]\nnames = 'a.example'\npath = '/a'\n[[host]]\nnames = ['b.example', 'c.example']\n\
            [[host.location]]\npattern = '/x/'\ncgi = '/y'\ncgi_env = { A = 'b' }\n";
        let mut problems = Vec::new();
        let document = parse(Path::new("x"), text, &mut problems);
        assert_eq!(problems, []);
        let texts = |given: &[Given]| -> Vec<String> { given.iter().map(|it| it.text.display().to_string()).collect() };
        let location = &document.top.locations[0];
        assert_eq!(texts(location.layer.all("header")), ["X-A: b", "X-B: c"]);
        assert!(matches!(location.auth, Some(AuthTable::Off(_))));
        assert_eq!(document.hosts.len(), 2);
        assert_eq!(texts(&document.hosts[1].names), ["b.example", "c.example"]);
        let location = &document.hosts[1].scope.locations[0];
        assert_eq!(texts(location.layer.all("cgi")), ["/y"]);
        assert_eq!(texts(location.layer.all("cgi-env")), ["A=b"]);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("é = 1\nünï", "é = 1\nü".len()), (2, 2));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("a", 99), (1, 2));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]a-z_='\"0-9\n.{},é-]{0,60}") {
            let _ = parse(Path::new("x"), &text, &mut Vec::new());
        }
    }
}
