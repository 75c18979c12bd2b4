//! The percentile spectrum, drawn with plain characters: latency (logarithmic) over the percentile, on an axis on which
//! each nine takes the same room. It ends where fewer than a hundred samples lie beyond.

use super::units;
use crate::record::{BEYOND_MIN, Hist};

/// Lines of the drawing, without its axis.
const ROWS: usize = 9;

/// Columns of the numbers at the left, with the axis.
const MARGIN: usize = 11;

/// One line of the drawing.
pub(crate) struct Series<'a> {
    pub(crate) mark: char,
    pub(crate) name: &'a str,
    pub(crate) hist: &'a Hist,
}

/// The lines of the drawing; nothing if there are too few samples to draw. Of marks on one another the first is seen.
pub(crate) fn draw(series: &[Series<'_>], width: usize) -> Vec<String> {
    let series: Vec<&Series<'_>> = series.iter().filter(|one| nines(one.hist) > 0.3).collect();
    let columns = width.saturating_sub(MARGIN + 6);
    let span = series.iter().map(|one| nines(one.hist)).fold(0.0, f64::max);
    if series.is_empty() || columns < 20 {
        return Vec::new();
    }
    let at = |column: usize| span * column as f64 / (columns - 1) as f64;
    let values: Vec<Vec<f64>> = series.iter().map(|one| values(one.hist, columns, at)).collect();
    let scale = Scale::over(values.iter().flatten().copied());
    let mut grid = vec![vec![' '; columns]; ROWS];
    for (one, values) in series.iter().zip(&values).rev() {
        plot(&mut grid, one.mark, values, scale);
    }
    let mut lines: Vec<String> = grid.into_iter().enumerate().map(|(row, cells)| labelled(row, cells, scale)).collect();
    lines.extend(axis(columns, span));
    if series.len() > 1 {
        let legend: Vec<String> = series.iter().map(|one| format!("{} {}", one.mark, one.name)).collect();
        lines.push(format!("{:MARGIN$}{}", "", legend.join("   ")));
    }
    lines
}

/// How many nines a histogram can show: 2 is the 99th percentile.
pub(crate) fn nines(hist: &Hist) -> f64 {
    (hist.count() as f64 / BEYOND_MIN as f64).max(1.0).log10()
}

/// The quantile after so many nines.
pub(crate) fn quantile(nines: f64) -> f64 {
    1.0 - 10f64.powf(-nines)
}

/// The value in each column, until the histogram has no more to say.
fn values(hist: &Hist, columns: usize, at: impl Fn(usize) -> f64) -> Vec<f64> {
    let last = nines(hist) + 1e-9;
    let known = (0..columns).map(at).take_while(|&nines| nines <= last);
    known.map(|nines| hist.at_quantile(quantile(nines)).max(1) as f64).collect()
}

/// A logarithmic scale over the rows.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// At least a factor of 1.25, so that noise is not drawn as a slope.
    fn over(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = values.fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = (low.ln(), high.ln());
        let missing = (1.25_f64.ln() - (high - low)).max(0.0) / 2.0;
        Scale { low: low - missing, high: high + missing }
    }

    fn row(self, value: f64) -> usize {
        let share = (value.ln() - self.low) / (self.high - self.low);
        let up = (share * (ROWS - 1) as f64).round().clamp(0.0, (ROWS - 1) as f64);
        ROWS - 1 - up as usize
    }

    fn value(self, row: usize) -> f64 {
        let share = (ROWS - 1 - row) as f64 / (ROWS - 1) as f64;
        (self.low + share * (self.high - self.low)).exp()
    }
}

/// Marks each column, and the rows between it and the one before.
fn plot(grid: &mut [Vec<char>], mark: char, values: &[f64], scale: Scale) {
    let mut before = None;
    for (column, &value) in values.iter().enumerate() {
        let row = scale.row(value);
        let from: usize = before.map_or(row, |before: usize| if before > row { before - 1 } else { row });
        for cells in &mut grid[row..=from.max(row)] {
            cells[column] = mark;
        }
        before = Some(row);
    }
}

/// Every other row says its value.
fn labelled(row: usize, cells: Vec<char>, scale: Scale) -> String {
    let label = if row.is_multiple_of(2) { units::duration_f64(scale.value(row)) } else { String::new() };
    let cells: String = cells.into_iter().collect();
    format!("{label:>9} |{cells}").trim_end().to_owned()
}

/// The line below, with a mark and a name for the median and for each nine.
fn axis(columns: usize, span: f64) -> [String; 2] {
    let mut line = vec!['-'; columns];
    let mut names = vec![' '; columns + 6];
    let mut free_from = 0;
    let ticks = [(0.0, String::from("0%")), (2f64.log10(), String::from("50%"))];
    let nines = (1..12).map(|nines| (f64::from(nines), nine_name(nines)));
    for (nines, name) in ticks.into_iter().chain(nines).take_while(|(nines, _)| *nines <= span + 1e-9) {
        let column = (nines / span * (columns - 1) as f64).round() as usize;
        line[column] = '+';
        let start = column.saturating_sub(name.len() / 2);
        if start >= free_from && start + name.len() <= names.len() {
            for (at, c) in name.chars().enumerate() {
                names[start + at] = c;
            }
            free_from = start + name.len() + 1;
        }
    }
    let (line, names): (String, String) = (line.into_iter().collect(), names.into_iter().collect());
    [format!("{:>9} +{line}", ""), format!("{:MARGIN$}{names}", "").trim_end().to_owned()]
}

/// `90%`, `99%`, `99.9%`.
pub(crate) fn nine_name(nines: u32) -> String {
    match nines {
        1 => String::from("90%"),
        2 => String::from("99%"),
        n => format!("99.{}%", "9".repeat(n as usize - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hist(samples: impl Iterator<Item = u64>) -> Hist {
        let mut hist = Hist::durations();
        samples.for_each(|sample| hist.record(sample));
        hist
    }

    #[test]
    fn too_few_samples_are_not_drawn() {
        let few = hist(0..150);
        assert!(draw(&[Series { mark: '*', name: "response", hist: &few }], 80).is_empty());
    }

    #[test]
    fn a_stall_of_one_in_a_hundred_stands_at_the_right_of_p99() {
        let stall = hist((0..100_000).map(|n| if n % 100 == 0 { 200_000_000 } else { 1_000_000 }));
        let lines = draw(&[Series { mark: '*', name: "response", hist: &stall }], 77);
        let expected = "
   200 ms |                                        ********************
          |                                        *
  53.2 ms |                                        *
          |                                        *
  14.1 ms |                                        *
          |                                        *
  3.76 ms |                                        *
          |                                        *
  1.00 ms |****************************************
          ++-----+-------------+------------------+-------------------+
           0%   50%           90%                99%                99.9%";
        assert_eq!(format!("\n{}", lines.join("\n")), expected);
    }

    #[test]
    fn two_series_have_a_legend_and_every_line_keeps_to_the_width() {
        let (a, b) = (hist((0..50_000).map(|n| 1_000 + n * n / 50)), hist((0..5_000).map(|n| 900 + n)));
        for width in [60, 80, 120] {
            let series =
                [Series { mark: '*', name: "response", hist: &a }, Series { mark: '.', name: "service", hist: &b }];
            let lines = draw(&series, width);
            assert!(lines.iter().all(|line| line.len() <= width), "{lines:#?}");
            assert_eq!(lines.last().map(|line| line.trim()), Some("* response   . service"));
        }
    }
}
