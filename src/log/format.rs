//! What a line of the server's own log looks like: text for people, or an object of JSON for programs. Whatever a message holds,
//! a line is one line, and says nothing to a terminal.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Form {
    #[default]
    Text,
    Json,
}

impl Form {
    /// Every form, with the name it is asked for by.
    pub(crate) const NAMES: [(&'static str, Form); 2] = [("text", Form::Text), ("json", Form::Json)];

    fn current() -> Form {
        if IS_JSON.load(Ordering::Relaxed) { Form::Json } else { Form::Text }
    }
}

/// The log begins before the command line has been read.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on lines look like that.
pub(crate) fn set(form: Form) {
    IS_JSON.store(form == Form::Json, Ordering::Relaxed);
}

/// A line that the log writes about itself, with its end.
pub(super) fn notice(message: &str) -> String {
    let mut line = String::new();
    let fields = Fields { message: message.to_owned(), ..Fields::default() };
    // A string takes everything.
    let _ = fields.write(Form::current(), &Level::WARN, &mut Writer::new(&mut line));
    line
}

/// Makes lines of events.
pub(crate) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.write(Form::current(), event.metadata().level(), &mut writer)
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Said)>,
}

/// One of its fields.
#[derive(Clone)]
enum Said {
    Text(String),
    /// As its `Display` or `Debug` has it.
    Shown(String),
    /// A number, or true or false.
    Other(Value),
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.others.push((name, Said::Shown(format!("{value:?}")))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            name => self.others.push((name, Said::Text(value.to_owned()))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push((field.name(), Said::Other(value.into())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.push((field.name(), Said::Other(value.into())));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push((field.name(), Said::Other(value.into())));
    }
}

impl Fields {
    fn write(&self, form: Form, level: &Level, writer: &mut Writer<'_>) -> fmt::Result {
        match form {
            Form::Text => self.write_text(level, writer),
            Form::Json => self.write_json(level, writer),
        }
    }

    fn write_text(&self, level: &Level, writer: &mut Writer<'_>) -> fmt::Result {
        let (dim, colour, plain) =
            if writer.has_ansi_escapes() { ("\x1b[2m", colour(level), "\x1b[0m") } else { ("", "", "") };
        writer.write_str(dim)?;
        SystemTime.format_time(writer)?;
        write!(writer, "{plain} {colour}{level:>5}{plain} ")?;
        write_visible(&self.message, writer)?;
        for (name, value) in &self.others {
            write!(writer, " {name}=")?;
            match value {
                // Where it ends must be seen.
                Said::Text(text) => write_visible(&format!("{text:?}"), writer)?,
                Said::Shown(text) => write_visible(text, writer)?,
                Said::Other(other) => write!(writer, "{other}")?,
            }
        }
        writer.write_char('\n')
    }

    fn write_json(&self, level: &Level, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str("{\"time\":\"")?;
        SystemTime.format_time(writer)?;
        let level = level.as_str().to_ascii_lowercase();
        write!(writer, "\",\"level\":\"{level}\",\"message\":")?;
        write_ascii(&Value::String(self.message.clone()), writer)?;
        for (name, value) in &self.others {
            write!(writer, ",\"{name}\":")?;
            match value {
                Said::Text(text) | Said::Shown(text) => write_ascii(&Value::String(text.clone()), writer)?,
                Said::Other(other) => write_ascii(other, writer)?,
            }
        }
        writer.write_str("}\n")
    }
}

fn colour(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Controls, and what turns the direction of text, stand for themselves as escapes.
fn write_visible(text: &str, to: &mut impl Write) -> fmt::Result {
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                write!(to, "{}", c.escape_unicode())?
            }
            c if c.is_control() => write!(to, "{}", c.escape_default())?,
            c => to.write_char(c)?,
        }
    }
    Ok(())
}

/// JSON in ASCII: what is beyond that is inside strings, where it may be written so.
fn write_ascii(value: &Value, to: &mut impl Write) -> fmt::Result {
    for c in value.to_string().chars() {
        match c {
            ' '..='~' => to.write_char(c)?,
            c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(to, "\\u{unit:04x}"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(form: Form, message: &str, others: &[(&'static str, Said)]) -> String {
        let mut line = String::new();
        let fields = Fields { message: message.to_owned(), others: others.to_vec() };
        fields.write(form, &Level::WARN, &mut Writer::new(&mut line)).unwrap();
        line
    }

    #[test]
    fn text_is_time_level_message_and_fields() {
        let pid = Said::Other(json!(12));
        let others = [("script", Said::Text("/a".into())), ("pid", pid), ("error", Said::Shown("No".into()))];
        let line = line(Form::Text, "it ended", &others);
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, " WARN it ended script=\"/a\" pid=12 error=No\n");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn json_is_the_same_as_an_object() {
        let line = line(Form::Json, "it \"ended\"", &[("pid", Said::Other(json!(12)))]);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value, json!({ "time": value["time"], "level": "warn", "message": "it \"ended\"", "pid": 12 }));
    }

    proptest::proptest! {
        #[test]
        fn no_text_forges_a_line_or_reaches_a_terminal(message: String, field: String) {
            let others = [("error", Said::Shown(field.clone()))];
            let text = line(Form::Text, &message, &others);
            let is_quiet = |c: char| !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c);
            proptest::prop_assert!(text.strip_suffix('\n').unwrap().chars().all(is_quiet), "{:?}", text);
            let json = line(Form::Json, &message, &others);
            proptest::prop_assert!(json.strip_suffix('\n').unwrap().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let value: Value = serde_json::from_str(&json).unwrap();
            proptest::prop_assert_eq!((value["message"].as_str(), value["error"].as_str()), (Some(&*message), Some(&*field)));
        }
    }
}
