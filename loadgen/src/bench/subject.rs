//! The servers: a name, a command, and what has to be known of each to ask it fairly. Pure.

use serde::{Deserialize, Serialize};

/// A server as its lines of configuration say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Subject {
    /// As in `--servers`, in tables and in the names of files.
    pub name: String,
    /// What it is, in words.
    #[serde(default)]
    pub about: String,
    /// The words of the command, quoted as in a shell; it stays in the foreground and ends on SIGTERM.
    pub command: String,
    /// Where it answers, as in `http://127.0.0.1:{port}`; without it the server prints that, and takes `--port 0`.
    #[serde(default)]
    pub url: Option<String>,
    /// The text of the file `{config}`.
    #[serde(default)]
    pub config: Option<String>,
    /// A command whose first line of output is the version.
    #[serde(default)]
    pub version: Option<String>,
    /// What it does with the connection.
    #[serde(default)]
    pub after_reply: AfterReply,
    /// What programs it runs.
    #[serde(default)]
    pub programs: Programs,
    /// True if 1 KiB is all that it can say.
    #[serde(default)]
    pub only_small: bool,
    /// False for one that is not measured at the rates of all: it would set them, and nothing would be seen of the others.
    #[serde(default = "yes")]
    pub paced: bool,
    /// What stands before every path.
    #[serde(default)]
    pub prefix: String,
    /// The only cells that it is in; all, if it names none.
    #[serde(default)]
    pub cells: Vec<String>,
}

/// What a server does with a connection after a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterReply {
    /// It waits for the next request, and others are served meanwhile.
    #[default]
    Keeps,
    /// It closes.
    Closes,
    /// It waits, and a worker waits with it.
    HoldsWorker,
}

/// What programs a server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Programs {
    /// None.
    #[default]
    None,
    /// CGI programs, whose head the server completes.
    Cgi,
    /// Programs that write the whole response, status line and all.
    Nph,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    server: Vec<Subject>,
}

/// What the words in braces stand for.
#[derive(Clone, Debug)]
pub struct Fill {
    /// `{port}`
    pub port: u16,
    /// `{site}`: the folder that is served.
    pub site: String,
    /// `{config}`: the file with the server's `config`.
    pub config: String,
    /// `{folder}`: a folder for whatever else it writes.
    pub folder: String,
    /// `{cores}`: how many CPUs it has.
    pub cores: usize,
    /// `{bin}`: where this program lies, and the models beside it.
    pub bin: String,
}

/// The servers that are known without being told.
#[must_use]
pub fn known() -> Vec<Subject> {
    parse(include_str!("models.toml")).unwrap_or_default()
}

/// Reads `[[server]]` tables.
///
/// # Errors
/// What is wrong, and where.
pub fn parse(text: &str) -> Result<Vec<Subject>, String> {
    let document: Document = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    if document.server.is_empty() {
        return Err(String::from("there is no [[server]]"));
    }
    for subject in &document.server {
        subject.check()?;
    }
    Ok(document.server)
}

/// Those of these names, in that order; all without names. Of two with the same name the later is meant.
///
/// # Errors
/// Names the one that is not there, and those that are.
pub fn chosen(all: Vec<Subject>, names: &[String]) -> Result<Vec<Subject>, String> {
    let mut known: Vec<Subject> = Vec::new();
    for subject in all {
        match known.iter_mut().find(|one| one.name == subject.name) {
            Some(one) => *one = subject,
            None => known.push(subject),
        }
    }
    if names.is_empty() {
        return Ok(known);
    }
    let find = |name: &String| {
        known.iter().find(|subject| subject.name == *name).cloned().ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|subject| subject.name.as_str()).collect();
            format!("there is no server `{name}`; there are {}", names.join(", "))
        })
    };
    names.iter().map(find).collect()
}

impl Default for Subject {
    fn default() -> Subject {
        let text = String::new;
        Subject {
            name: text(),
            about: text(),
            command: text(),
            url: None,
            config: None,
            version: None,
            after_reply: AfterReply::default(),
            programs: Programs::default(),
            only_small: false,
            paced: true,
            prefix: text(),
            cells: Vec::new(),
        }
    }
}

impl Subject {
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(format!("`{}` is no name: letters, digits, `-`, `_` and `.`", self.name));
        }
        if let Some(name) = self.cells.iter().find(|name| super::cell::Cell::by_name(name).is_none()) {
            return Err(format!("server {}: there is no cell `{name}`", self.name));
        }
        if self.url.as_ref().is_some_and(|url| !url.starts_with("http://")) {
            return Err(format!("server {}: its url begins with http://", self.name));
        }
        words(&self.command).map(drop).map_err(|why| format!("server {}: {why}", self.name))
    }

    /// The words of its command.
    ///
    /// # Errors
    /// A quote without its end.
    pub fn argv(&self, fill: &Fill) -> Result<Vec<String>, String> {
        Ok(words(&self.command)?.iter().map(|word| fill.apply(word)).collect())
    }
}

impl Fill {
    /// The text with what the words in braces stand for; other braces stay.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let pairs = [
            ("{port}", self.port.to_string()),
            ("{site}", self.site.clone()),
            ("{config}", self.config.clone()),
            ("{folder}", self.folder.clone()),
            ("{cores}", self.cores.to_string()),
            ("{bin}", self.bin.clone()),
        ];
        pairs.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// Words as a shell reads them: between spaces, or between quotes.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match (quote, words.is_empty()) {
        (Some(quote), _) => Err(format!("`{text}`: a {quote} without its end")),
        (None, true) => Err(String::from("the command is empty")),
        (None, false) => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill() -> Fill {
        let text = |text: &str| text.to_owned();
        Fill { port: 81, site: text("/s"), config: text("/c"), folder: text("/f"), cores: 2, bin: text("/b") }
    }

    #[test]
    fn the_known_servers_are_the_models_and_ucaffeine() {
        let names: Vec<String> = known().into_iter().map(|subject| subject.name).collect();
        assert_eq!(names.len(), 10);
        assert_eq!((names[0].as_str(), names[9].as_str()), ("prefork-fdpass", "ucaffeine"));
    }

    #[test]
    fn the_servers_of_debian_can_be_read() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/peers.toml");
        let peers = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["nginx", "lighttpd", "apache", "h2o", "caddy"]);
        assert!(peers.iter().all(|peer| peer.config.as_ref().is_none_or(|config| config.contains("{port}"))));
    }

    #[test]
    fn a_line_of_configuration_is_a_server() {
        let text =
            "server = [{ name = \"x\", command = \"x -p {port} '{site} a'\", url = \"http://127.0.0.1:{port}\" }]";
        let x = parse(text).unwrap().remove(0);
        assert_eq!(x.argv(&fill()).unwrap(), ["x", "-p", "81", "/s a"]);
        assert_eq!((x.after_reply, x.programs), (AfterReply::Keeps, Programs::None));
        assert_eq!(fill().apply("server { listen {port}; }"), "server { listen 81; }");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        for (text, why) in [
            ("", "no [[server]]"),
            ("[[server]]\nname = 'a b'\ncommand = 'x'", "`a b` is no name"),
            ("[[server]]\nname = '../a'\ncommand = 'x'", "is no name"),
            ("[[server]]\nname = 'a'", "command"),
            ("[[server]]\nname = 'a'\ncommand = ''", "empty"),
            ("[[server]]\nname = 'a'\ncommand = 'x \"y'", "without its end"),
            ("[[server]]\nname = 'a'\ncommand = 'x'\nnonsense = 1", "nonsense"),
            ("[[server]]\nname = 'a'\ncommand = 'x'\ncells = ['no']", "no cell `no`"),
            ("[[server]]\nname = 'a'\ncommand = 'x'\nurl = 'https://x'", "http://"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn servers_are_chosen_by_name_and_the_later_one_is_meant() {
        let named = |name: &str, command: &str| Subject {
            name: name.to_owned(),
            command: command.to_owned(),
            ..Subject::default()
        };
        let all = vec![named("a", "1"), named("b", "1"), named("a", "2")];
        let both = chosen(all.clone(), &["b".into(), "a".into()]).unwrap();
        assert_eq!(both.iter().map(|one| one.command.as_str()).collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(chosen(all.clone(), &[]).unwrap().len(), 2);
        assert!(chosen(all, &["c".into()]).unwrap_err().contains("there are a, b"));
    }
}
