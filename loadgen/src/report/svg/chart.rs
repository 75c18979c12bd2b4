//! A line chart as SVG: two axes, lines that are named where they end, colours for a light and a dark page.

use std::fmt::Write as _;

use super::super::style::shorten;
use super::page::{COLOURS, apart, escape};

/// The size of a chart, in CSS pixels.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 440.0;

/// Where the lines are drawn: room at the left for numbers, at the right for the names of lines.
const LEFT: f64 = 78.0;
const RIGHT: f64 = WIDTH - 134.0;
const TOP: f64 = 98.0;
const BOTTOM: f64 = HEIGHT - 58.0;

/// So many characters of a name fit beside the chart.
const NAME_COLUMNS: usize = 15;

/// Names of lines are at least so far apart.
const NAME_HEIGHT: f64 = 16.0;

/// How many lines have a colour of their own.
pub(super) const LINES_MAX: usize = COLOURS.len();

/// A chart, ready to be drawn.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// One axis: from where to where, and what stands beside it.
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Places, with their names.
    pub(super) ticks: Vec<(f64, String)>,
}

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// In the axes' units; the line is broken where there is nothing.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A measured one.
    Solid,
    /// A measured one that matters less.
    Thin,
    /// Something to compare with.
    Reference,
}

impl Axis {
    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

impl Chart {
    /// The whole document.
    pub(super) fn render(&self) -> String {
        let mut out = head(&self.title);
        let _ = writeln!(out, r#"<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="6"/>"#);
        let _ = writeln!(out, r#"<text class="title" x="24" y="32">{}</text>"#, escape(&self.title));
        let _ = writeln!(out, r#"<text class="faint" x="24" y="52">{}</text>"#, escape(&self.subtitle));
        self.axes(&mut out);
        for (number, line) in self.lines.iter().enumerate() {
            self.line(&mut out, number, line);
        }
        self.names(&mut out);
        if self.lines.iter().all(|line| line.points.iter().all(Option::is_none)) {
            let (x, y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
            let _ = writeln!(
                out,
                r#"<text class="faint" x="{x}" y="{y}" text-anchor="middle">too few answers to draw</text>"#
            );
        }
        out.push_str("</svg>\n");
        out
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.y.share(value) * (BOTTOM - TOP)
    }

    fn axes(&self, out: &mut String) {
        for (place, name) in &self.y.ticks {
            let (y, name) = (self.y(*place), escape(name));
            let _ = writeln!(out, r#"<path class="grid" d="M{LEFT} {y:.1}H{RIGHT}"/>"#);
            let _ = writeln!(
                out,
                r#"<text class="tick" x="{}" y="{:.1}" text-anchor="end">{name}</text>"#,
                LEFT - 10.0,
                y + 4.0
            );
        }
        for (place, name) in &self.x.ticks {
            let (x, name) = (self.x(*place), escape(name));
            let _ = writeln!(out, r#"<path class="grid" d="M{x:.1} {TOP}V{BOTTOM}"/>"#);
            let _ = writeln!(
                out,
                r#"<text class="tick" x="{x:.1}" y="{}" text-anchor="middle">{name}</text>"#,
                BOTTOM + 20.0
            );
        }
        let _ = writeln!(out, r#"<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>"#);
        let (x, y) = ((LEFT + RIGHT) / 2.0, HEIGHT - 16.0);
        let _ = writeln!(
            out,
            r#"<text class="faint" x="{x}" y="{y}" text-anchor="middle">{}</text>"#,
            escape(&self.x.label)
        );
        let _ = writeln!(out, r#"<text class="faint" x="24" y="{}">{}</text>"#, TOP - 18.0, escape(&self.y.label));
    }

    fn line(&self, out: &mut String, number: usize, line: &Line) {
        let mut path = String::new();
        let mut dots = String::new();
        for (at, point) in line.points.iter().enumerate() {
            let Some((x, y)) = point else { continue };
            let before = at.checked_sub(1).and_then(|before| line.points[before]);
            let after = line.points.get(at + 1).copied().flatten();
            let command = if before.is_some() { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(*x), self.y(*y));
            // A point without neighbours is no line, but it was measured.
            if before.is_none() && after.is_none() {
                let _ = write!(
                    dots,
                    r#"<circle class="dot c{number}" cx="{:.1}" cy="{:.1}" r="3"/>"#,
                    self.x(*x),
                    self.y(*y)
                );
            }
        }
        let kind = match line.kind {
            Kind::Solid => "line",
            Kind::Thin => "line thin",
            Kind::Reference => "line reference",
        };
        let _ = writeln!(out, r#"<path class="{kind} c{number}" d="{path}"/>{dots}"#);
    }

    /// Each name stands where its line ends, moved apart where ends are close.
    fn names(&self, out: &mut String) {
        let end = |line: &Line| line.points.iter().rev().flatten().next().map(|&(x, y)| (self.x(x), self.y(y)));
        let ends = self.lines.iter().enumerate().filter_map(|(number, line)| Some((end(line)?, number, line)));
        let mut ends: Vec<_> = ends.collect();
        ends.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
        let heights = apart(&ends.iter().map(|end| end.0.1).collect::<Vec<_>>(), NAME_HEIGHT, (TOP, BOTTOM));
        for (&((x, _), number, line), y) in ends.iter().zip(heights) {
            // Beside the end of the line, or at the margin if another line goes on there.
            let x = if ends.len() == 1 { x } else { RIGHT };
            let name = escape(&shorten(&line.name, NAME_COLUMNS));
            let _ =
                writeln!(out, r#"<text class="name f{number}" x="{:.1}" y="{:.1}">{name}</text>"#, x + 8.0, y + 4.0);
        }
    }
}

fn head(title: &str) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" aria-label=\"{}\">\n<style>\n{}",
        escape(title),
        "svg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13px}\n\
         .page{fill:#fff}text{fill:#20242a}.title{font-size:17px;font-weight:600}\n\
         .faint,.tick{fill:#59616c}.tick{font-variant-numeric:tabular-nums}.name{font-weight:600}\n\
         .grid{stroke:#e4e7eb}.axis{stroke:#8b939d}.line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}\n\
         .thin{stroke-width:1.25}.reference{stroke-width:1.5;stroke-dasharray:5 5}\n"
    );
    for (number, (light, _)) in COLOURS.iter().enumerate() {
        let _ = writeln!(out, ".c{number}{{stroke:{light}}}.f{number},.dot.c{number}{{fill:{light}}}");
    }
    out.push_str(
        "@media (prefers-color-scheme:dark){.page{fill:#14171c}text{fill:#e6e9ed}.faint,.tick{fill:#9aa4b0}\n\
         .grid{stroke:#2a2f37}.axis{stroke:#6b7480}\n",
    );
    for (number, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = writeln!(out, ".c{number}{{stroke:{dark}}}.f{number},.dot.c{number}{{fill:{dark}}}");
    }
    out.push_str("}\n</style>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_where_there_is_nothing_and_a_lone_point_is_a_dot() {
        let axis = || Axis { label: String::new(), from: 0.0, to: 4.0, ticks: Vec::new() };
        let points = vec![Some((0.0, 0.0)), Some((1.0, 1.0)), None, Some((3.0, 1.0)), None];
        let line = Line { name: String::from("p99"), kind: Kind::Solid, points };
        let (title, subtitle) = (String::new(), String::new());
        let text = Chart { title, subtitle, x: axis(), y: axis(), lines: vec![line] }.render();
        assert_eq!(text.matches("d=\"M78.0 382.0L225.0 311.0M519.0 311.0\"").count(), 1, "{text}");
        assert_eq!(text.matches("<circle").count(), 1);
    }
}
