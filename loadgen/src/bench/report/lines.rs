//! A line chart of many servers: each line is named where it ends. Pure.

use super::sheet::{Look, Sheet};
use crate::report::svg::page::apart;

/// The size of a chart, in CSS pixels, and where the lines are drawn in it.
const SIZE: (f64, f64) = (920.0, 520.0);
const LEFT: f64 = 84.0;
const RIGHT: f64 = SIZE.0 - 184.0;
const TOP: f64 = 98.0;
const BOTTOM: f64 = SIZE.1 - 58.0;
const NAME_HEIGHT: f64 = 17.0;
const DOT: f64 = 3.2;
const SAMPLE_WIDTH: f64 = 22.0;

/// A chart, ready to be drawn.
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// One axis, in its own units (of a logarithmic one, logarithms).
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<(f64, String)>,
}

/// One server.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) points: Vec<Point>,
    /// Whether each point was measured by itself, and has its mark.
    pub(super) marks: bool,
}

/// A point; an open one is to be read with care.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) at: (f64, f64),
    pub(super) open: bool,
}

impl Axis {
    /// From the smallest to the largest of these, with some room.
    pub(super) fn over(label: &str, values: impl Iterator<Item = f64>, least: f64) -> Axis {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Axis { label: label.to_owned(), from: 0.0, to: 0.0, ticks: Vec::new() };
        }
        let room = ((least - (high - low)) / 2.0).max((high - low) * 0.05).max(0.01);
        Axis { label: label.to_owned(), from: low - room, to: high + room, ticks: Vec::new() }
    }

    /// Whether there is nothing on it.
    pub(super) fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    fn share(&self, value: f64) -> f64 {
        if self.is_empty() { 0.5 } else { ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0) }
    }
}

impl Lines {
    /// The document.
    pub(super) fn render(&self) -> String {
        let mut sheet = Sheet::new(SIZE, &self.title, &self.subtitle);
        self.axes(&mut sheet);
        for line in &self.lines {
            self.line(&mut sheet, line);
        }
        self.names(&mut sheet);
        if self.lines.iter().all(|line| line.points.is_empty()) {
            let middle = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
            sheet.text("faint", middle, "middle", "too few answers to draw");
        }
        sheet.finish()
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (LEFT + self.x.share(x) * (RIGHT - LEFT), BOTTOM - self.y.share(y) * (BOTTOM - TOP))
    }

    fn axes(&self, sheet: &mut Sheet) {
        for (value, name) in &self.y.ticks {
            let (_, y) = self.place((self.x.from, *value));
            sheet.path("grid", &format!("M{LEFT} {y:.1}H{RIGHT}"));
            sheet.text("tick", (LEFT - 10.0, y + 4.0), "end", name);
        }
        for (value, name) in &self.x.ticks {
            let (x, _) = self.place((*value, self.y.from));
            sheet.path("grid", &format!("M{x:.1} {TOP}V{BOTTOM}"));
            sheet.text("tick", (x, BOTTOM + 20.0), "middle", name);
        }
        sheet.path("axis", &format!("M{LEFT} {BOTTOM}H{RIGHT}"));
        sheet.text("faint", ((LEFT + RIGHT) / 2.0, SIZE.1 - 16.0), "middle", &self.x.label);
        sheet.text("faint", (24.0, TOP - 18.0), "start", &self.y.label);
    }

    fn line(&self, sheet: &mut Sheet, line: &Line) {
        let places: Vec<(f64, f64)> = line.points.iter().map(|point| self.place(point.at)).collect();
        let corner =
            |(number, (x, y)): (usize, &(f64, f64))| format!("{}{x:.1} {y:.1}", if number == 0 { 'M' } else { 'L' });
        sheet.path(&line.look.line, &places.iter().enumerate().map(corner).collect::<String>());
        // A point without neighbours is no line, but it was measured.
        if line.marks || places.len() == 1 {
            for (point, place) in line.points.iter().zip(places) {
                let class = match point.open {
                    true => format!("open {}", line.look.line.replace("line ", "")),
                    false => line.look.fill.replace("name ", ""),
                };
                sheet.dot(&class, place, DOT);
            }
        }
    }

    /// Names stand beside the chart in the order of the lines' ends, each with a thin line to its own.
    fn names(&self, sheet: &mut Sheet) {
        let end = |line: &Line| line.points.last().map(|point| self.place(point.at));
        let mut ends: Vec<((f64, f64), &Line)> =
            self.lines.iter().filter_map(|line| Some((end(line)?, line))).collect();
        ends.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
        let heights = apart(&ends.iter().map(|end| end.0.1).collect::<Vec<_>>(), NAME_HEIGHT, (TOP, BOTTOM));
        for (((x, y), line), height) in ends.into_iter().zip(heights) {
            let colour = line.look.line.split(' ').filter(|class| !["line", "ours"].contains(class));
            let class =
                format!("leader {}", colour.filter(|class| !class.starts_with('d')).collect::<Vec<_>>().join(" "));
            sheet.path(&class, &format!("M{:.1} {y:.1}L{:.1} {height:.1}", x + 4.0, RIGHT + 6.0));
            // A piece of the line itself, so that its dashes can be told.
            sheet.path(&line.look.line, &format!("M{:.1} {height:.1}h{SAMPLE_WIDTH}", RIGHT + 8.0));
            sheet.text(&line.look.fill, (RIGHT + SAMPLE_WIDTH + 14.0, height + 4.0), "start", &line.name);
        }
    }
}
