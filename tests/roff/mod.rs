//! Manual pages, made of a command line's own definition: roff as man(7) wants it. Included by the tests that hold the committed
//! pages to it; `scripts/make-manuals` writes them.
#![allow(dead_code, unreachable_pub, reason = "each binary compiles its own copy and uses a part of it")]

use std::path::Path;

use clap::{Arg, ArgAction, Command};

/// A page under construction.
pub struct Page(String);

impl Page {
    /// `section` is 1 for a program and 5 for a file; `about` is one line.
    pub fn new(name: &str, section: u8, version: &str, about: &str) -> Page {
        let manual = if section == 5 { "File Formats" } else { "User Commands" };
        let head = format!(
            ".\\\" Made by scripts/make-manuals from the command line's own definition.\n\
             .TH \"{}\" \"{section}\" \"\" \"{} {version}\" \"{manual}\"\n",
            escape(&name.to_uppercase()),
            escape(name.split('.').next().unwrap_or(name)),
        );
        Page(head).section("NAME").line(&format!("{} \\- {}", escape(name), escape(about)))
    }

    pub fn section(self, title: &str) -> Page {
        self.line(&format!(".SH \"{}\"", escape(title)))
    }

    pub fn subsection(self, title: &str) -> Page {
        self.line(&format!(".SS \"{}\"", escape(title)))
    }

    /// Paragraphs, separated by empty lines, and marked; one of indented lines is an example.
    pub fn text(mut self, text: &str) -> Page {
        for paragraph in text.trim_matches('\n').split("\n\n") {
            if !self.0.lines().next_back().is_some_and(|line| line.starts_with(".S")) {
                self = self.line(".PP");
            }
            self = match paragraph.lines().all(|line| line.starts_with("    ")) {
                true => self.example(&paragraph.lines().map(|line| &line[4..]).collect::<Vec<_>>().join("\n")),
                false => paragraph.lines().fold(self, |page, line| page.line(&protected(&marked(line)))),
            };
        }
        self
    }

    /// Lines as they are.
    pub fn example(self, text: &str) -> Page {
        let lines = text.lines().map(|line| protected(&escape(line)));
        lines.fold(self.line(".RS 4").line(".EX"), |page, line| page.line(&line)).line(".EE").line(".RE")
    }

    /// A term, and what is to be said about it; both marked as in `text`.
    pub fn term(self, term: &str, meaning: &str) -> Page {
        self.line(".TP").line(&protected(&marked(term))).within(meaning)
    }

    /// The flags of a command, under the headings of its help.
    pub fn options(mut self, command: &Command) -> Page {
        let command = built(command);
        let shown: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
        let mut headings: Vec<Option<&str>> = Vec::new();
        for arg in &shown {
            if !headings.contains(&arg.get_help_heading()) {
                headings.push(arg.get_help_heading());
            }
        }
        // What has no heading comes first, as in the help's own order it may not.
        headings.sort_by_key(|heading| heading.is_some());
        for heading in headings {
            if let Some(heading) = heading {
                self = self.subsection(heading);
            }
            let under = shown.iter().filter(|arg| arg.get_help_heading() == heading);
            self = under.fold(self, |page, arg| page.option(arg));
        }
        self
    }

    fn option(self, arg: &Arg) -> Page {
        self.line(".TP").line(&protected(&spelled(arg))).within_plain(&help(arg))
    }

    /// Every subcommand of a command that is no secret, and theirs.
    pub fn subcommands(self, name: &str, command: &Command) -> Page {
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
        shown.fold(self, |page, command| {
            let name = format!("{name} {}", command.get_name());
            let has_flags = command.get_arguments().any(|arg| !arg.is_hide_set() && !arg.is_positional());
            let flags = has_flags.then(|| String::from("[FLAGS]"));
            let words = command.get_positionals().map(positional);
            let synopsis = std::iter::once(name.clone()).chain(flags).chain(words).collect::<Vec<_>>().join(" ");
            page.subcommand(&synopsis, command).subcommands(&name, command)
        })
    }

    /// The same, of a meaning without marks.
    pub fn plain_term(self, term: &str, meaning: &str) -> Page {
        self.line(".TP").line(&protected(&marked(term))).within_plain(meaning)
    }

    /// A subcommand: how it is called, what it does, and its flags.
    pub fn subcommand(self, synopsis: &str, command: &Command) -> Page {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let mut page = self.subsection(synopsis).line(&protected(&escape(&about)));
        let command = built(command);
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_help(arg)) {
            page = page.option(arg);
        }
        page
    }

    /// A paragraph below a term.
    fn within(self, text: &str) -> Page {
        text.lines().fold(self, |page, line| page.line(&protected(&marked(line))))
    }

    fn within_plain(self, text: &str) -> Page {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.fold(self, |page, line| page.line(&protected(&escape(line.trim()))))
    }

    fn line(mut self, line: &str) -> Page {
        self.0.push_str(line);
        self.0.push('\n');
        self
    }

    /// Holds the committed page to this one; or, asked by `scripts/make-manuals`, commits this one.
    #[track_caller]
    pub fn hold(self, path: &Path) {
        if std::env::var_os("UCAFFEINE_MAKE_MANUALS").is_some() {
            std::fs::write(path, self.0).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            return;
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let differs = committed.lines().zip(self.0.lines()).find(|(committed, made)| committed != made);
        assert!(
            committed == self.0,
            "{} is not what the command line says; run scripts/make-manuals: {differs:?}",
            path.display()
        );
    }
}

/// With the flags that clap adds.
fn built(command: &Command) -> Command {
    let mut command = command.clone();
    command.build();
    command
}

fn positional(arg: &Arg) -> String {
    let several = if arg.get_num_args().is_some_and(|count| count.max_values() > 1) { "..." } else { "" };
    let name =
        arg.get_value_names().and_then(|names| names.first()).map_or(arg.get_id().as_str(), |name| name.as_str());
    if arg.is_required_set() { format!("{name}{several}") } else { format!("[{name}{several}]") }
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong)
}

/// `-p, --port PORT`, as it is typed.
fn spelled(arg: &Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let names = arg.get_value_names().unwrap_or_default();
    let value: Vec<String> = names.iter().map(|name| format!("\\fI{}\\fP", escape(name))).collect();
    if arg.is_positional() {
        let name =
            if value.is_empty() { format!("\\fI{}\\fP", escape(arg.get_id().as_str())) } else { value.join(" ") };
        return name;
    }
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fP"));
    let long = arg.get_long_and_visible_aliases().unwrap_or_default().into_iter();
    let long = long.map(|long| format!("\\fB{}\\fP", escape(&format!("--{long}"))));
    let all = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if takes_value && !value.is_empty() { format!("{all} {}", value.join(" ")) } else { all }
}

fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let is_said = help.contains("[default:") || arg.is_hide_default_value_set() || !arg.get_action().takes_values();
    let help = if defaults.is_empty() || is_said { help } else { format!("{help} [default: {}]", defaults.join(" ")) };
    // What holds without it comes last, behind whatever the long help adds.
    match help.split_once('\n').map(|(first, more)| (first.rsplit_once(" [default: "), first, more)) {
        Some((Some((first, default)), _, more)) => format!("{first}.\n{more}\n[default: {default}"),
        Some((None, first, more)) => format!("{first}.\n{more}"),
        None => help,
    }
}

/// Text with marks: between backticks it is bold, between angle brackets italic.
fn marked(text: &str) -> String {
    let mut roff = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '<']) {
        roff.push_str(&escape(&rest[..at]));
        let (end, font) = if rest[at..].starts_with('`') { ('`', 'B') } else { ('>', 'I') };
        let Some((inner, after)) = rest[at + 1..].split_once(end) else { panic!("no {end} in: {text}") };
        roff.push_str(&format!("\\f{font}{}\\fP", escape(inner)));
        rest = after;
    }
    roff + &escape(rest)
}

/// Characters that roff would take for something else, or print as something that cannot be copied into a shell.
pub fn escape(text: &str) -> String {
    let mut roff = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => roff.push_str("\\e"),
            '-' => roff.push_str("\\-"),
            '\'' => roff.push_str("\\(aq"),
            '`' => roff.push_str("\\(ga"),
            '^' => roff.push_str("\\(ha"),
            '~' => roff.push_str("\\(ti"),
            '"' => roff.push_str("\\(dq"),
            c if c.is_ascii() => roff.push(c),
            c => roff.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    roff
}

/// A line that begins like a request is none.
fn protected(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}
