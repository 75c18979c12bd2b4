//! Where a value was said: flags over variables over the file. Values stay text here, so that all three mean the same.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use super::problem::{Problem, ProblemKind, did_you_mean};
use super::settings;

/// One value, as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) text: OsString,
    pub(crate) origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// With its name: `--port`, or `DIR`.
    Flag(String),
    Variable(String),
    File {
        path: Rc<Path>,
        line: usize,
        column: usize,
        key: String,
    },
}

/// What one source says: values by name. A value that may be said once is a list of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer(BTreeMap<&'static str, Vec<Given>>);

/// The sources, the strongest first.
pub(crate) struct Layers(pub(crate) [Layer; 3]);

impl Layers {
    /// The whole list of the strongest source that says anything: lists replace each other, they do not add up.
    pub(crate) fn all(&self, name: &str) -> &[Given] {
        self.0.iter().find_map(|layer| layer.0.get(name)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn one(&self, name: &str) -> Option<&Given> {
        self.all(name).last()
    }

    /// Whether a flag or a variable says it, and so more than the file.
    pub(crate) fn is_overruled(&self, name: &str) -> bool {
        let [flags, variables, _file] = &self.0;
        [flags, variables].iter().any(|layer| layer.0.contains_key(name))
    }
}

impl Layer {
    pub(crate) fn add(&mut self, name: &'static str, given: Given) {
        self.0.entry(name).or_default().push(given);
    }

    /// All that it says about a thing.
    pub(crate) fn all(&self, name: &str) -> &[Given] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The things that it says something about.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// What it says last about a thing.
    pub(crate) fn last(&self, name: &str) -> Option<&Given> {
        self.0.get(name)?.last()
    }

    /// With what the other says about things that this one says nothing about.
    pub(crate) fn or(mut self, other: Layer) -> Layer {
        for (name, values) in other.0 {
            self.0.entry(name).or_insert(values);
        }
        self
    }

    /// What the environment says. An empty variable says nothing; an unknown one of ours is a mistake.
    pub(crate) fn from_environment(environment: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Layer {
        let mut layer = Layer::default();
        for (variable, text) in environment.iter().filter(|(_, text)| !text.is_empty()) {
            let Some(variable) = variable.to_str().filter(|variable| settings::is_ours(variable)) else { continue };
            if variable == CONFIG_VARIABLE {
                continue;
            }
            match settings::names().find(|name| settings::variable(name) == variable) {
                Some(name) => layer.add_variable(name, variable, text),
                None => problems.push(unknown_variable(variable)),
            }
        }
        layer
    }

    fn add_variable(&mut self, name: &'static str, variable: &str, text: &OsStr) {
        for text in values(name, text) {
            self.add(name, Given { text, origin: Origin::Variable(variable.to_owned()) });
        }
    }
}

/// The folder that this process was started in, where relative paths begin: also later, when it has gone elsewhere.
///
/// # Errors
/// There was none when it was first asked for.
pub(crate) fn started_in() -> io::Result<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| std::env::current_dir().ok());
    folder.as_deref().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the folder it was started in is gone"))
}

/// Names the configuration file; it cannot stand in the file itself.
pub(crate) const CONFIG_VARIABLE: &str = "UCAFFEINE_CONFIG";

fn values(name: &str, text: &OsStr) -> Vec<OsString> {
    match (text.to_str(), settings::list_separator(name)) {
        (Some(text), Some(separator)) => {
            let parts = text.split(separator).map(str::trim);
            parts.filter(|part| !part.is_empty()).map(OsString::from).collect()
        }
        _ => vec![text.to_owned()],
    }
}

fn unknown_variable(variable: &str) -> Problem {
    let known = settings::names().map(settings::variable).chain([CONFIG_VARIABLE.to_owned()]);
    let hint = match did_you_mean(variable, known) {
        hint if hint.is_empty() && KUBERNETES_SUFFIXES.iter().any(|suffix| variable.ends_with(suffix)) => {
            String::from("; Kubernetes sets it for a service named ucaffeine: turn enableServiceLinks off")
        }
        hint => hint,
    };
    let what = format!("no such variable{hint}");
    Problem { kind: ProblemKind::Configuration, place: variable.to_owned(), what }
}

/// What a service link adds to the service's name.
const KUBERNETES_SUFFIXES: [&str; 6] =
    ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_TCP_ADDR", "_TCP_PORT", "_TCP_PROTO"];

impl Given {
    /// The text, if it is text at all.
    pub(crate) fn str(&self) -> Result<&str, Problem> {
        self.text.to_str().ok_or_else(|| self.unreadable("not UTF-8"))
    }

    /// As a path: one in a file is relative to that file's folder, any other to the one that this process was started in.
    pub(crate) fn path(&self, text: impl AsRef<Path>) -> Result<PathBuf, Problem> {
        let base = match &self.origin {
            Origin::File { path, .. } => path.parent().unwrap_or(Path::new("")),
            Origin::Flag(_) | Origin::Variable(_) => Path::new(""),
        };
        if text.as_ref().as_os_str().is_empty() {
            return Err(self.unreadable("an empty path"));
        }
        if text.as_ref().as_os_str().as_bytes().contains(&0) {
            return Err(self.unreadable("a NUL in a path"));
        }
        let path = base.join(text);
        let absolute = |path: &Path| match path.is_absolute() {
            true => std::path::absolute(path),
            false => std::path::absolute(started_in()?.join(path)),
        };
        absolute(&path).map_err(|error| self.impossible(format!("no absolute path: {error}")))
    }

    /// What was written cannot be read: a usage error if it was a flag.
    pub(crate) fn unreadable(&self, what: impl Into<String>) -> Problem {
        let kind = match self.origin {
            Origin::Flag(_) => ProblemKind::Usage,
            Origin::Variable(_) | Origin::File { .. } => ProblemKind::Configuration,
        };
        Problem { kind, place: self.place(), what: what.into() }
    }

    /// What was written can be read, but not be done.
    pub(crate) fn impossible(&self, what: impl Into<String>) -> Problem {
        Problem { kind: ProblemKind::Configuration, place: self.place(), what: what.into() }
    }

    fn place(&self) -> String {
        let text = self.text.display();
        match &self.origin {
            Origin::Flag(flag) => format!("{flag} {text}"),
            Origin::Variable(variable) => format!("{variable}={text}"),
            // A table has no text.
            Origin::File { path, line, column, key } if key.starts_with('[') => {
                format!("{}:{line}:{column}: {key}", path.display())
            }
            Origin::File { path, line, column, key } => format!("{}:{line}:{column}: {key} = {text}", path.display()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Variable(variable) => write!(f, "{variable}"),
            Origin::File { path, line, .. } => write!(f, "{}:{line}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<Layer, Vec<Problem>> {
        let pairs: Vec<_> = pairs.iter().map(|(name, text)| (OsString::from(name), OsString::from(text))).collect();
        let mut problems = Vec::new();
        let layer = Layer::from_environment(&pairs, &mut problems);
        if problems.is_empty() { Ok(layer) } else { Err(problems) }
    }

    fn texts(layer: &Layer, name: &str) -> Vec<String> {
        layer.0.get(name).into_iter().flatten().map(|given| given.text.display().to_string()).collect()
    }

    #[test]
    fn variables_are_read_and_lists_are_split() {
        let layer = environment(&[
            ("HOME", "/root"),
            ("UCAFFEINE_PORT", "81"),
            ("UCAFFEINE_CORES", ""),
            ("UCAFFEINE_CONFIG", "x.toml"),
            ("UCAFFEINE_BIND", "127.0.0.1; [::1] ;"),
            ("UCAFFEINE_PATH", "/a;b"),
        ])
        .unwrap();
        assert_eq!(texts(&layer, "port"), ["81"]);
        assert_eq!(texts(&layer, "bind"), ["127.0.0.1", "[::1]"]);
        assert_eq!(texts(&layer, "path"), ["/a;b"], "only lists are split");
        assert_eq!(layer.0.len(), 3);
    }

    #[test]
    fn a_misspelled_variable_is_refused() {
        let table = [
            ("UCAFFEINE_PROT", "UCAFFEINE_PROT: no such variable; did you mean UCAFFEINE_PORT?"),
            ("UCAFFEINE_ZZZZZZZZZZZZZZZZZZ", "UCAFFEINE_ZZZZZZZZZZZZZZZZZZ: no such variable"),
        ];
        for (variable, want) in table {
            assert_eq!(environment(&[(variable, "1")]).unwrap_err()[0].to_string(), want);
        }
        let kubernetes = environment(&[("UCAFFEINE_PORT_8080_TCP_ADDR", "10.0.0.1")]).unwrap_err();
        assert!(kubernetes[0].to_string().contains("enableServiceLinks"), "{}", kubernetes[0]);
    }
}
