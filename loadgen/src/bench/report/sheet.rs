//! A page to draw on, as SVG: classes with colours for a light and a dark page, and one look for each server. Pure.

use std::fmt::Write as _;

use crate::report::svg::page::{COLOURS, escape};

/// A page.
pub(super) struct Sheet {
    out: String,
}

/// More lines than colours are told apart by how they are broken.
const DASHES: [&str; 3] = ["", "7 4", "2 4"];

/// The server that has the first colour and the widest line.
pub(super) const OURS: &str = "ucaffeine";
/// The one that is no server, and has none.
pub(super) const LIMIT: &str = "floor";

/// How a server looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The classes of its lines.
    pub(super) line: String,
    /// The classes of its name and its marks.
    pub(super) fill: String,
}

/// The look of a server, by its place among all of them.
pub(super) fn look(names: &[&str], subject: usize) -> Look {
    match names[subject] {
        OURS => Look { line: "line ours c0".into(), fill: "name f0".into() },
        LIMIT => Look { line: "line limit".into(), fill: "name flimit".into() },
        _ => {
            let others = names[..subject].iter().filter(|name| ![OURS, LIMIT].contains(name)).count();
            let colour = 1 + others % (COLOURS.len() - 1);
            let dash = others / (COLOURS.len() - 1) % DASHES.len();
            Look { line: format!("line c{colour} d{dash}"), fill: format!("name f{colour}") }
        }
    }
}

impl Sheet {
    /// An empty page with its title.
    pub(super) fn new((width, height): (f64, f64), title: &str, subtitle: &str) -> Sheet {
        let title = escape(title);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n<style>\n{}</style>\n",
            style()
        );
        let _ = writeln!(out, r#"<rect class="page" width="{width}" height="{height}" rx="6"/>"#);
        let _ = writeln!(out, r#"<text class="title" x="24" y="32">{title}</text>"#);
        let mut sheet = Sheet { out };
        sheet.text("faint", (24.0, 52.0), "start", subtitle);
        sheet
    }

    /// A text; `anchor` is `start`, `middle` or `end`.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: &str, text: &str) {
        let anchor = if anchor == "start" { String::new() } else { format!(" text-anchor=\"{anchor}\"") };
        let _ = writeln!(self.out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}"{anchor}>{}</text>"#, escape(text));
    }

    /// A path.
    pub(super) fn path(&mut self, class: &str, path: &str) {
        if !path.is_empty() {
            let _ = writeln!(self.out, r#"<path class="{class}" d="{path}"/>"#);
        }
    }

    /// A bar.
    pub(super) fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = writeln!(
            self.out,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2"/>"#
        );
    }

    /// A mark on a line.
    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        let _ = writeln!(self.out, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"/>"#);
    }

    /// The document.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

fn style() -> String {
    let mut out = String::from(
        "svg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13px}\n\
         .page{fill:#fff}text{fill:#20242a}.title{font-size:17px;font-weight:600}.name{font-weight:600;font-size:12.5px}\n\
         .faint,.tick,.value{fill:#59616c}.tick,.value{font-variant-numeric:tabular-nums;font-size:12px}.head{font-weight:600}\n\
         .grid{stroke:#e4e7eb}.axis{stroke:#8b939d;fill:none}.leader{fill:none;opacity:.35;stroke-width:1}\n\
         .line{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}.ours{stroke-width:3.25}\n\
         .limit{stroke:#8b939d;stroke-width:1.75;stroke-dasharray:1 5}.flimit{fill:#6b7480}\n\
         .open{fill:#fff;stroke-width:1.75}.bar{fill:#9fb0c3}.bar.mine{fill:#1f6fc9}.bar.least{fill:#d5dae0}\n\
         .bar.bad{fill:none;stroke:#9fb0c3;stroke-dasharray:3 3}.whisker{stroke:#20242a;stroke-width:1.25;fill:none}\n",
    );
    for (number, (light, _)) in COLOURS.iter().enumerate() {
        let _ = writeln!(out, ".c{number}{{stroke:{light}}}.f{number}{{fill:{light}}}");
    }
    for (number, dash) in DASHES.iter().enumerate().skip(1) {
        let _ = writeln!(out, ".d{number}{{stroke-dasharray:{dash}}}");
    }
    out.push_str(
        "@media (prefers-color-scheme:dark){.page{fill:#14171c}text{fill:#e6e9ed}.faint,.tick,.value{fill:#9aa4b0}\n\
         .grid{stroke:#2a2f37}.axis{stroke:#6b7480}.limit{stroke:#8b939d}.flimit{fill:#9aa4b0}.open{fill:#14171c}\n\
         .bar{fill:#5a6b7e}.bar.mine{fill:#5aa5f2}.bar.least{fill:#333b45}.bar.bad{stroke:#5a6b7e}.whisker{stroke:#e6e9ed}\n",
    );
    for (number, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = writeln!(out, ".c{number}{{stroke:{dark}}}.f{number}{{fill:{dark}}}");
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_fifteen_servers_look_alike_and_ours_is_always_the_same() {
        let mut names = vec!["ucaffeine", "floor"];
        let others: Vec<String> = (0..15).map(|number| format!("s{number}")).collect();
        names.extend(others.iter().map(String::as_str));
        let looks: std::collections::BTreeSet<String> = (0..names.len()).map(|at| look(&names, at).line).collect();
        assert_eq!(looks.len(), names.len());
        assert_eq!(look(&["a", "b", "ucaffeine"], 2), look(&["ucaffeine"], 0));
    }
}
