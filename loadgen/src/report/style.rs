//! How text is laid out: width, colour, which percentiles. Tables and paragraphs that keep to it.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use crate::record::Percentile;

/// Where the text goes, as far as it matters for the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    /// Columns. Lines that can be broken are; a table drops what does not fit.
    pub width: usize,
    /// Whether to colour verdicts.
    pub colour: bool,
    /// The percentiles to print.
    pub percentiles: Vec<Percentile>,
}

/// Narrower than this nothing is readable; wider, lines are too long to follow.
const WIDTH: std::ops::RangeInclusive<usize> = 60..=120;

/// What is assumed where there is no terminal to ask.
const WIDTH_UNKNOWN: usize = 100;

/// p50, p90, p99, p99.9 and p99.99, unless `--pcts` says otherwise.
const PERCENTILES: &[&str] = &["50", "90", "99", "99.9", "99.99"];

impl Style {
    /// For a place of that width; `None` is no terminal.
    #[must_use]
    pub fn new(width: Option<usize>, colour: bool) -> Style {
        let width = width.unwrap_or(WIDTH_UNKNOWN).clamp(*WIDTH.start(), *WIDTH.end());
        let percentiles = PERCENTILES.iter().filter_map(|text| text.parse().ok()).collect();
        Style { width, colour, percentiles }
    }

    /// For this process's standard output: in colour on a terminal, unless `NO_COLOR` is set to anything.
    #[must_use]
    pub fn of_stdout() -> Style {
        let terminal = io::stdout().is_terminal();
        let width = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().map(|size| usize::from(size.ws_col));
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style::new(width.filter(|&columns| columns > 0), terminal && !plain)
    }

    /// The text in a colour, where there is colour.
    #[must_use]
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Good => "1;32",
            Colour::Doubtful => "1;33",
            Colour::Bad => "1;31",
            Colour::Strong => "1",
            Colour::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The lines of a paragraph.
    pub(crate) fn wrapped(&self, text: &str) -> Vec<String> {
        wrap(text, self.width)
    }

    /// Appends a paragraph, broken at spaces, each line behind `indent`.
    pub(crate) fn paragraph(&self, out: &mut String, indent: &str, text: &str) {
        self.hanging(out, indent, indent.len(), text);
    }

    /// Appends a paragraph whose first line is behind `first` and whose others are indented.
    pub(crate) fn hanging(&self, out: &mut String, first: &str, indent: usize, text: &str) {
        let mut lead = first.to_owned();
        for line in wrap(text, self.width.saturating_sub(indent)) {
            let _ = writeln!(out, "{lead}{line}");
            lead = " ".repeat(indent);
        }
    }
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// All is well.
    Good,
    /// Read it with care.
    Doubtful,
    /// It is wrong.
    Bad,
    /// A heading, or the number that was asked for.
    Strong,
    /// Remarks.
    Faint,
}

/// Lines of at most that many columns, broken at spaces; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && columns(line) + 1 + columns(word) > width {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

/// Columns on the screen, as long as every character has one.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// The end of a text that is too long for a column, behind two dots: of a path or a URL the end says more.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let length = columns(text);
    if length <= width {
        return text.to_owned();
    }
    let end: String = text.chars().skip(length - width.saturating_sub(2)).collect();
    format!("..{end}")
}

/// Rows whose first column is left-aligned and whose others are right-aligned, two spaces between.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, without spaces at their ends. The last columns that do not fit are left out, in every row.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        let widths = self.widths(width);
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            });
            cells.collect::<String>().trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let most = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| columns(cell)).max();
        let mut used = 0;
        let widths = (0..most).map(|at| widest(at).unwrap_or(0)).take_while(|&cell| {
            let fits = used == 0 || used + 2 + cell <= width;
            used += 2 + cell;
            fits
        });
        widths.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_only() {
        assert_eq!(Style::new(None, false).paint(Colour::Bad, "INVALID"), "INVALID");
        assert_eq!(Style::new(Some(80), true).paint(Colour::Bad, "INVALID"), "\x1b[1;31mINVALID\x1b[0m");
    }

    #[test]
    fn the_width_is_a_readable_one() {
        let widths = [None, Some(0), Some(80), Some(400)].map(|width| Style::new(width, false).width);
        assert_eq!(widths, [100, 60, 80, 120]);
    }

    #[test]
    fn paragraphs_are_broken_at_spaces() {
        assert_eq!(wrap("aa bb  cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aaaaaaa b", 5), ["aaaaaaa", "b"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn a_table_aligns_numbers_and_drops_what_does_not_fit() {
        let mut table = Table::default();
        table.row(["", "p50", "p99"]);
        table.row(["response", "480 us", "1.20 ms"]);
        assert_eq!(table.lines(80), ["             p50      p99", "response  480 us  1.20 ms"]);
        assert_eq!(table.lines(20), ["             p50", "response  480 us"]);
    }

    #[test]
    fn of_a_long_path_the_end_stays() {
        assert_eq!(shorten("http://host/a/b", 8), "..st/a/b");
        assert_eq!(shorten("short", 8), "short");
    }
}
