//! The configuration file: TOML, one key per flag, read into the same text that a flag would have had.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::{Problem, ProblemKind, did_you_mean};
use super::settings;
use super::sources::{Given, Layer, Origin, started_in};

/// No configuration is longer; a device that never ends is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and parses. Every unknown key is a problem of its own.
pub(crate) fn read(path: &Path) -> Result<Layer, Vec<Problem>> {
    let text = text(path).map_err(|what| vec![problem(path.display().to_string(), what)])?;
    parse(path, &text)
}

fn text(path: &Path) -> Result<String, String> {
    // Whatever folder this process is in by now.
    let at = started_in().map_or_else(|_| path.to_owned(), |folder| folder.join(path));
    let file = std::fs::File::open(at).map_err(|error| format!("cannot be read: {error}"))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes; is it the configuration?"));
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Layer, Vec<Problem>> {
    let mut file = File { path: path.into(), text, layer: Layer::default(), problems: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => file.table(table.get_ref()),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            file.refuse(start, &format!("not TOML: {what}"));
        }
    }
    if file.problems.is_empty() { Ok(file.layer) } else { Err(file.problems) }
}

/// A file while it is read.
struct File<'t> {
    path: Rc<Path>,
    text: &'t str,
    layer: Layer,
    problems: Vec<Problem>,
}

impl File<'_> {
    fn table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let written: &str = key.get_ref();
            match settings::names().find(|name| settings::key(name) == written) {
                Some(name) => self.value(name, value),
                None => self.unknown(key.span().start, written),
            }
        }
    }

    fn unknown(&mut self, at: usize, written: &str) {
        let hint = match written {
            "config" | "explain" => String::from("; it is for the command line only"),
            "workers" => String::from("; did you mean cores?"),
            _ => did_you_mean(written, settings::names().map(settings::key)),
        };
        self.refuse(at, &format!("unknown key {written}{hint}"));
    }

    fn value(&mut self, name: &'static str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Array(values) if settings::is_list(name) => {
                for value in values.iter() {
                    self.scalar(name, "", value);
                }
            }
            DeValue::Table(table) if settings::is_pairs(name) => self.pairs(name, "", table),
            _ => self.scalar(name, "", value),
        }
    }

    /// `[cgi]`, `[cgi_env]`, `[error_page]` and their like: a key and its value are what stands before and after `=` in the flag. A table in
    /// `[cgi_env]` is for one mount: its key is what stands before `:`.
    fn pairs(&mut self, name: &'static str, mount: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            match value.get_ref() {
                DeValue::Table(inner) if name == "cgi-env" && mount.is_empty() => {
                    self.pairs(name, &format!("{}:", key.get_ref()), inner);
                }
                _ => self.scalar(name, &format!("{mount}{}=", key.get_ref()), value),
            }
        }
    }

    fn scalar(&mut self, name: &'static str, before: &str, value: &Spanned<DeValue<'_>>) {
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
        let Some(text) = text else {
            let kind = value.get_ref().type_str();
            return self.refuse(at, &format!("{}: {kind} cannot stand here", settings::key(name)));
        };
        let (line, column) = position(self.text, at);
        let origin = Origin::File { path: self.path.clone(), line, column, key: settings::key(name) };
        self.layer.add(name, Given { text: OsString::from(format!("{before}{text}")), origin });
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
        let layer = parse(Path::new("/etc/site.toml"), text).unwrap();
        let layers = Layers([layer, Layer::default(), Layer::default()]);
        layers.all(name).iter().map(|given| given.text.display().to_string()).collect()
    }

    fn problems(text: &str) -> Vec<String> {
        parse(Path::new("site.toml"), text).unwrap_err().iter().map(Problem::to_string).collect()
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
        ];
        for (text, want) in table {
            assert_eq!(problems(text), [want], "{text}");
        }
        let broken = problems("port = 1\nport = 2\n");
        assert!(broken[0].starts_with("site.toml:2:1: not TOML: duplicate key"), "{broken:?}");
        assert_eq!(problems("a = 1\nb = 2").len(), 2, "every mistake is told at once");
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
            let _ = parse(Path::new("x"), &text);
        }
    }
}
