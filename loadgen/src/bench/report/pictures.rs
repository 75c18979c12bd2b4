//! The pictures: percentile spectra, latency over the offered rate, CPU per request, capacity over connections. Pure.

use super::super::cell::{CELLS, Cell, Drive, KNEE_CELL, Key};
use super::super::results::{Belief, Metric, Results, Row};
use super::lines::{Axis, Line, Lines, Point};
use super::sheet::{LIMIT, OURS, Sheet, look};
use super::text;
use crate::record::{Hist, Percentile};
use crate::report::spectrum::{nine_name, nines, quantile};
use crate::report::units;
use crate::verdict::Verdict;

/// Places along the axis of nines at which a spectrum is drawn.
const STEPS: usize = 240;
/// A piece of a ramp of which less was answered is beyond the knee.
const ANSWERED_MIN: f64 = 0.9;

/// All of them: the names of files, and what is in them.
#[must_use]
pub(super) fn all(results: &Results) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (cell, percent) in [(KNEE_CELL, 50), ("close", 50), ("cgi-hello", 50), (KNEE_CELL, 80)] {
        let Some(cell) = Cell::by_name(cell) else { continue };
        let key = Key { cell, drive: Drive::Paced(percent) };
        if results.keys().contains(&key) {
            files.push((format!("spectrum-{}-{percent}.svg", key.load().name), spectrum(results, key)));
        }
    }
    if results.keys().iter().any(|key| key.drive == Drive::Ramp) {
        files.push(("knee.svg".into(), knee(results)));
    }
    files.push(("cpu.svg".into(), cpu(results)));
    files.push(("connections.svg".into(), connections(results)));
    files
}

fn names(results: &Results) -> Vec<&str> {
    (0..results.settings.servers.len()).map(|subject| results.name(subject)).collect()
}

/// The line of each server that has points. Ours is drawn last, over the others.
fn lines(results: &Results, marks: bool, points: impl Fn(usize) -> Vec<Point>) -> Vec<Line> {
    let names = names(results);
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|subject| names[*subject] == OURS);
    let line = |subject: usize| Line {
        name: names[subject].to_owned(),
        look: look(&names, subject),
        points: points(subject),
        marks,
    };
    order.into_iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

/// Response times of all servers at one rate, each nine in the same room, as far as a hundred answers lie beyond.
fn spectrum(results: &Results, key: Key) -> String {
    let hist = |subject: usize| results.row(key, subject)?.spectrum.as_ref().filter(|hist| nines(hist) > 0.3);
    let subjects = 0..results.settings.servers.len();
    let span = subjects.filter_map(hist).map(nines).fold(1.0, f64::max);
    let points = |subject: usize| hist(subject).map_or_else(Vec::new, |hist| spectrum_points(hist, span));
    let lines = lines(results, false, points);
    let ticks = [(0.0, String::from("0%")), (2f64.log10(), String::from("50%"))];
    let ticks = ticks.into_iter().chain((1..12).map(|nines| (f64::from(nines), nine_name(nines))));
    let ticks = ticks.take_while(|(nines, _)| *nines <= span + 1e-9).collect();
    let offered = results.settings.rates.as_ref().and_then(|rates| rates.offered(key, "")).map_or(0.0, |rate| rate.0);
    Lines {
        title: format!("Response time by percentile: {}", key.load().title),
        subtitle: format!("all at {}, {}; rounds together", units::rate(offered), text::drive(key)),
        x: Axis { label: "percentile (each nine takes the same room)".into(), from: 0.0, to: span, ticks },
        y: latency_axis("response time (logarithmic)", &lines),
        lines,
    }
    .render()
}

fn spectrum_points(hist: &Hist, span: f64) -> Vec<Point> {
    let last = nines(hist) + 1e-9;
    let places = (0..=STEPS).map(|step| span * step as f64 / STEPS as f64).take_while(|nines| *nines <= last);
    let point = |nines: f64| Point { at: (nines, log(hist.at_quantile(quantile(nines)) as f64)), open: false };
    places.map(point).collect()
}

/// The 99th percentile over the rate, until more is offered than is answered.
fn knee(results: &Results) -> String {
    let cell = Cell::by_name(KNEE_CELL).unwrap_or(0);
    let key = Key { cell, drive: Drive::Ramp };
    let rows: Vec<&Row> = results.rows().filter(|(of, ..)| *of == key).map(|(.., row)| row).collect();
    let percentile = knee_percentile(&rows);
    let points = |subject: usize| results.row(key, subject).map_or_else(Vec::new, |row| knee_points(row, percentile));
    let lines = lines(results, true, points);
    let values = lines.iter().flat_map(|line| line.points.iter()).map(|point| point.at.0);
    let x = with_ticks(Axis::over("requests offered a second (logarithmic)", values, 0.5), rate_tick);
    Lines {
        title: format!("Where it is too much: {}", key.load().title),
        subtitle: format!("p{percentile} of the response time while the rate grows; open: answers fall behind"),
        x,
        y: latency_axis(&format!("p{percentile} of the response time (logarithmic)"), &lines),
        lines,
    }
    .render()
}

/// The highest percentile that at least half of every ramp can say; a short one of a slow server cannot say p99.
fn knee_percentile(rows: &[&Row]) -> Percentile {
    let says = |row: &Row, percentile: Percentile| {
        let known = row.ramp.iter().filter(|piece| piece.response.at(percentile).is_some()).count();
        known * 2 >= row.ramp.len()
    };
    let candidates = [Percentile::P99, Percentile::percent(90)];
    let found = candidates.into_iter().find(|percentile| rows.iter().all(|row| says(row, *percentile)));
    found.unwrap_or(Percentile::P50)
}

/// The first piece is left out, since the server has just started; of what lies beyond the knee, one is shown.
fn knee_points(row: &Row, percentile: Percentile) -> Vec<Point> {
    let mut points = Vec::new();
    for piece in row.ramp.iter().skip(1) {
        let Some(ns) = piece.response.at(percentile) else { continue };
        let answered = piece.answered.iter().sum::<f64>() / piece.answered.len().max(1) as f64;
        let open = answered < piece.offered * ANSWERED_MIN;
        points.push(Point { at: (log(piece.offered), log(ns as f64)), open });
        if open {
            break;
        }
    }
    points
}

/// Capacity over the number of connections.
fn connections(results: &Results) -> String {
    let measured = results.settings.cell_places();
    let cells: Vec<usize> = measured.into_iter().filter(|cell| CELLS[*cell].name.starts_with("keepalive-")).collect();
    let points = |subject: usize| {
        let point = |(place, cell): (usize, &usize)| {
            let figure = results.figure(Key::capacity(*cell), subject, Metric::Rate)?;
            let open = !matches!(figure.belief, Belief::Sound);
            (figure.estimate.median > 0.0).then(|| Point { at: (place as f64, log(figure.estimate.median)), open })
        };
        cells.iter().enumerate().filter_map(point).collect()
    };
    let lines = lines(results, true, points);
    let values = lines.iter().flat_map(|line| line.points.iter()).map(|point| point.at.1);
    let tick = |(place, cell): (usize, &usize)| (place as f64, units::count(u64::from(CELLS[*cell].connections)));
    Lines {
        title: "Capacity over connections: 1 KiB".into(),
        subtitle: "requests a second, closed loop; open: a lower bound (the generator was the limit), or not valid"
            .into(),
        x: Axis {
            label: "connections".into(),
            from: -0.15,
            to: (cells.len() as f64 - 0.85).max(0.15),
            ticks: cells.iter().enumerate().map(tick).collect(),
        },
        y: with_ticks(Axis::over("requests a second (logarithmic)", values, 0.5), rate_tick),
        lines,
    }
    .render()
}

/// The columns of the bars, and their names.
const COSTS: [(&str, &str); 5] = [
    ("keepalive-64", "1 KiB, kept"),
    ("pipelined", "1 KiB, pipelined"),
    ("close", "1 KiB, new each"),
    ("file-100k", "100 KiB"),
    ("cgi-hello", "program"),
];
/// The title has to fit.
const WIDTH_MIN: f64 = 640.0;
const NAMES_WIDTH: f64 = 150.0;
const COLUMN_WIDTH: f64 = 166.0;
const VALUE_WIDTH: f64 = 64.0;
const ROW_HEIGHT: f64 = 24.0;
const ROWS_TOP: f64 = 104.0;

/// CPU for an answer, as bars: a row for each server, a column with a scale of its own for each cell.
fn cpu(results: &Results) -> String {
    // A cell that was not measured has no column.
    let measured = |name: &str| Cell::by_name(name).is_some_and(|cell| results.keys().contains(&Key::capacity(cell)));
    let columns: Vec<(&str, &str)> = COSTS.into_iter().filter(|(name, _)| measured(name)).collect();
    let cost = |column: usize, subject: usize| {
        let key = Key::capacity(Cell::by_name(columns[column].0)?);
        results.figure(key, subject, Metric::Cpu)
    };
    let mut rows: Vec<usize> = (0..results.settings.servers.len())
        .filter(|subject| (0..columns.len()).any(|column| cost(column, *subject).is_some()))
        .collect();
    let order = |subject: &usize| {
        let known = (0..columns.len()).find_map(|column| Some((column, cost(column, *subject)?.estimate.median)));
        known.unwrap_or((columns.len(), 0.0))
    };
    rows.sort_by(|a, b| order(a).0.cmp(&order(b).0).then(order(a).1.total_cmp(&order(b).1)));
    let size = (
        (NAMES_WIDTH + COLUMN_WIDTH * columns.len() as f64 + 40.0).max(WIDTH_MIN),
        ROWS_TOP + ROW_HEIGHT * rows.len() as f64 + 24.0,
    );
    let mut sheet = Sheet::new(
        size,
        "Server CPU for an answer, in microseconds",
        "at capacity; median, with its interval; each column has its own scale; dashed: not valid",
    );
    for (row, subject) in rows.iter().enumerate() {
        let name = results.name(*subject);
        let class = if name == OURS { "name f0" } else { "tick" };
        sheet.text(class, (NAMES_WIDTH + 12.0, ROWS_TOP + ROW_HEIGHT * row as f64 + 15.0), "end", name);
    }
    for (column, (_, title)) in columns.iter().enumerate() {
        let left = NAMES_WIDTH + 24.0 + COLUMN_WIDTH * column as f64;
        sheet.text("head", (left, ROWS_TOP - 14.0), "start", title);
        let figures: Vec<_> = rows.iter().map(|subject| cost(column, *subject)).collect();
        let most = figures.iter().flatten().map(|figure| figure.estimate.median).fold(0.0, f64::max);
        let scale = if most > 0.0 { (COLUMN_WIDTH - VALUE_WIDTH) / most } else { 0.0 };
        for (row, figure) in figures.iter().enumerate() {
            let top = ROWS_TOP + ROW_HEIGHT * row as f64;
            let Some(figure) = figure else {
                sheet.text("value", (left, top + 15.0), "start", "-");
                continue;
            };
            let class = match (figure.belief, results.name(rows[row])) {
                (Belief::Invalid, _) => "bar bad",
                (_, OURS) => "bar mine",
                (_, LIMIT) => "bar least",
                _ => "bar",
            };
            let width = (figure.estimate.median * scale).max(1.0);
            sheet.bar(class, (left, top + 3.0), (width, ROW_HEIGHT - 8.0));
            let (low, high) = (figure.estimate.low * scale, (figure.estimate.high * scale).min(COLUMN_WIDTH - 8.0));
            if figure.estimate.rounds > 1 {
                let y = top + 3.0 + (ROW_HEIGHT - 8.0) / 2.0;
                sheet.path("whisker", &format!("M{:.1} {y:.1}H{:.1}", left + low, left + high));
            }
            let text = text::digits(figure.estimate.median / 1e3);
            sheet.text("value", (left + width.max(high) + 6.0, top + 15.0), "start", &text);
        }
    }
    sheet.finish()
}

fn log(value: f64) -> f64 {
    value.max(1.0).log10()
}

fn latency_axis(label: &str, lines: &[Line]) -> Axis {
    let values = lines.iter().flat_map(|line| line.points.iter()).map(|point| point.at.1);
    with_ticks(Axis::over(label, values, 2f64.log10()), units::round_duration)
}

fn rate_tick(rate: f64) -> String {
    if rate >= 1_000.0 { format!("{}k", rate / 1_000.0) } else { format!("{rate}") }
}

/// Round numbers between the ends of a logarithmic axis, few enough to be read.
fn with_ticks(mut axis: Axis, name: impl Fn(f64) -> String) -> Axis {
    let within = |factors: &[f64]| -> Vec<f64> {
        let decades = axis.from.floor() as i32..=axis.to.ceil() as i32;
        let all = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
        all.filter(|value| (axis.from..=axis.to).contains(&value.log10())).collect()
    };
    let candidates: [&[f64]; 4] = [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    let found = candidates.into_iter().map(within).find(|ticks| ticks.len() <= 9).unwrap_or_default();
    if axis.is_empty() {
        return axis;
    }
    axis.ticks = found.into_iter().map(|value| (value.log10(), name(value))).collect();
    axis
}

/// Whether a round counts; a helper of texts, too.
pub(super) fn counts(verdict: Verdict) -> bool {
    verdict != Verdict::Invalid
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_picture_is_well_formed_and_names_every_server_that_it_shows() {
        let results = sample();
        let files = all(&results);
        let names: Vec<&str> = files.iter().map(|file| file.0.as_str()).collect();
        assert!(names.contains(&"knee.svg") && names.contains(&"spectrum-close-50.svg"), "{names:?}");
        for (name, svg) in &files {
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
            let tags = svg.matches('<').count();
            let closed = svg.matches("/>").count() + 2 * svg.matches("</").count();
            assert_eq!(tags, closed, "{name}");
            assert!(svg.contains(">ucaffeine</text>") && svg.contains(">reactor-pool</text>"), "{name}");
        }
    }

    #[test]
    fn a_comparison_without_results_has_pictures_that_say_so() {
        let empty = Results::empty(sample().settings);
        assert!(connections(&empty).contains("too few answers to draw"));
        assert!(cpu(&empty).ends_with("</svg>\n"));
    }

    #[test]
    fn beyond_the_knee_there_is_one_point_and_it_is_open() {
        let piece = |offered: f64, answered: f64| super::super::super::results::Piece {
            offered,
            answered: vec![answered],
            response: {
                let mut hist = Hist::durations();
                hist.record_n(50_000, 20_000);
                hist
            },
        };
        let row =
            Row { ramp: vec![piece(1e3, 1e3), piece(2e3, 2e3), piece(3e3, 2.1e3), piece(4e3, 2e3)], ..Row::default() };
        assert_eq!(knee_percentile(&[&row]), Percentile::P99);
        let points = knee_points(&row, Percentile::P99);
        assert_eq!(points.iter().map(|point| point.open).collect::<Vec<_>>(), [false, true]);
    }
}
