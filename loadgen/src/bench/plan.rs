//! What comes after what, and how long it takes: values, decided before anything is started. Pure.

use std::time::Duration;

use super::cell::{CELLS, Cell, Drive, KNEE_CELL, Key, PERCENTS, RAMP_TIMES};
use super::subject::Subject;

/// One measurement: a fresh server, one load, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// What is measured.
    pub key: Key,
    /// The server's place among the servers.
    pub subject: usize,
    /// From 0.
    pub round: u32,
}

/// How long one measurement is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    /// Measured, in seconds.
    pub seconds: f64,
    /// Before that, in seconds.
    pub warmup: f64,
}

/// What a measurement takes besides its own time: start, first answer, connects, the end. Measured over all servers;
/// 10,000 connections take longer.
const OVERHEAD_SECONDS: f64 = 0.45;
const OVERHEAD_PER_CONNECTION_SECONDS: f64 = 60e-6;

/// A measurement is no shorter: less says nothing.
pub const SECONDS_MIN: f64 = 0.2;

/// The warm-up is that share of the measured time, within bounds.
const WARMUP_SHARE: f64 = 0.2;
const WARMUP_SECONDS: (f64, f64) = (0.1, 1.0);

/// The first part: what each can do. Rounds are outermost, so that what drifts drifts for all cells.
#[must_use]
pub fn capacities(cells: &[usize], subjects: &[Subject], rounds: u32) -> Vec<Step> {
    let keys: Vec<Key> = cells.iter().map(|cell| Key::capacity(*cell)).collect();
    steps(&keys, subjects, rounds)
}

/// The second part: all at the same rates, and each until it is too much.
#[must_use]
pub fn paced(cells: &[usize], subjects: &[Subject], rounds: u32) -> Vec<Step> {
    let mut keys = Vec::new();
    for &cell in cells.iter().filter(|cell| CELLS[**cell].paced) {
        keys.extend(PERCENTS.map(|percent| Key { cell, drive: Drive::Paced(percent) }));
        if CELLS[cell].name == KNEE_CELL {
            keys.push(Key { cell, drive: Drive::Ramp });
        }
    }
    let mut steps = steps(&keys, subjects, rounds);
    steps.retain(|step| subjects[step.subject].paced);
    steps
}

fn steps(keys: &[Key], subjects: &[Subject], rounds: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..rounds {
        for (number, key) in keys.iter().enumerate() {
            let order = order(subjects.len(), round, rounds, number);
            let asked = order.into_iter().filter(|subject| key.load().applies_to(&subjects[*subject]).is_ok());
            steps.extend(asked.map(|subject| Step { key: *key, subject, round }));
        }
    }
    steps
}

/// A row of a Latin square of that many servers: in as many rounds as there are servers each is once at every place, and in
/// fewer rounds never twice at the same. Where their number is even, each also follows each other one once (Williams's
/// square). `cell` shifts the row, so that not the same one is always first.
#[must_use]
pub fn order(subjects: usize, round: u32, rounds: u32, cell: usize) -> Vec<usize> {
    if subjects == 0 {
        return Vec::new();
    }
    let stride = (subjects / rounds.max(1) as usize).max(1);
    let shift = round as usize * stride + cell;
    let zigzag = |place: usize| if place.is_multiple_of(2) { place / 2 } else { subjects - place.div_ceil(2) };
    (0..subjects).map(|place| (zigzag(place) + shift) % subjects).collect()
}

impl Lengths {
    /// A measurement of so many seconds.
    #[must_use]
    pub fn of(seconds: f64) -> Lengths {
        let seconds = seconds.max(SECONDS_MIN);
        Lengths { seconds, warmup: (seconds * WARMUP_SHARE).clamp(WARMUP_SECONDS.0, WARMUP_SECONDS.1) }
    }

    /// The longest measurements with which all steps take no more than that.
    ///
    /// # Errors
    /// How long it takes with the shortest.
    pub fn within(time: Duration, steps: &[Step]) -> Result<Lengths, Duration> {
        let fits = |seconds: f64| Lengths::of(seconds).all(steps) <= time;
        if !fits(SECONDS_MIN) {
            return Err(Lengths::of(SECONDS_MIN).all(steps));
        }
        let (mut fitting, mut not) = (SECONDS_MIN, 3_600.0);
        while not - fitting > 0.005 {
            let middle = (fitting + not) / 2.0;
            if fits(middle) { fitting = middle } else { not = middle }
        }
        // Two digits are what a person can type again.
        Ok(Lengths::of((fitting * 100.0).floor() / 100.0))
    }

    /// How long all of that takes, as far as one can say.
    #[must_use]
    pub fn all(&self, steps: &[Step]) -> Duration {
        Duration::from_secs_f64(steps.iter().map(|step| self.one(step.key)).sum())
    }

    fn one(&self, key: Key) -> f64 {
        let connects = f64::from(key.load().connections) * OVERHEAD_PER_CONNECTION_SECONDS;
        OVERHEAD_SECONDS + connects + self.warmup_of(key) + self.seconds_of(key)
    }

    /// How long that is measured, in seconds.
    #[must_use]
    pub fn seconds_of(&self, key: Key) -> f64 {
        if key.drive == Drive::Ramp { self.seconds * RAMP_TIMES } else { self.seconds }
    }

    /// How long that is warmed up, in seconds. A ramp begins slowly anyway.
    #[must_use]
    pub fn warmup_of(&self, key: Key) -> f64 {
        if key.drive == Drive::Ramp { 0.0 } else { self.warmup }
    }
}

/// The cells of those names, in the order of the table; all of them without names.
///
/// # Errors
/// Names the one that is not there, and those that are.
pub fn cells_named(names: &[String]) -> Result<Vec<usize>, String> {
    if let Some(name) = names.iter().find(|name| Cell::by_name(name).is_none()) {
        let known: Vec<&str> = CELLS.iter().map(|cell| cell.name).collect();
        return Err(format!("there is no cell `{name}`; there are {}", known.join(", ")));
    }
    let named = |cell: &Cell| names.is_empty() || names.iter().any(|name| name == cell.name);
    Ok((0..CELLS.len()).filter(|cell| named(&CELLS[*cell])).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::subject::Programs;
    use super::*;

    #[test]
    fn every_row_has_every_server_once_and_every_server_every_place_once() {
        for subjects in 1..20usize {
            let rows: Vec<Vec<usize>> =
                (0..subjects as u32).map(|round| order(subjects, round, subjects as u32, 0)).collect();
            for row in &rows {
                assert_eq!(row.iter().collect::<BTreeSet<_>>().len(), subjects, "{row:?}");
            }
            for place in 0..subjects {
                assert_eq!(rows.iter().map(|row| row[place]).collect::<BTreeSet<_>>().len(), subjects);
            }
        }
    }

    #[test]
    fn in_fewer_rounds_than_servers_nobody_is_twice_at_a_place() {
        for (subjects, rounds) in [(14, 5), (9, 5), (15, 6), (6, 5), (2, 2)] {
            for cell in 0..4 {
                for subject in 0..subjects {
                    let place = |round| order(subjects, round, rounds, cell).iter().position(|one| *one == subject);
                    let places: BTreeSet<_> = (0..rounds).map(place).collect();
                    assert_eq!(places.len(), rounds as usize, "{subject} of {subjects} in {rounds}");
                }
            }
        }
    }

    #[test]
    fn of_an_even_number_each_follows_each_other_one_once() {
        for subjects in [2usize, 4, 8, 14] {
            let mut pairs = BTreeSet::new();
            for round in 0..subjects as u32 {
                let row = order(subjects, round, subjects as u32, 0);
                assert!(row.windows(2).all(|pair| pairs.insert((pair[0], pair[1]))), "{subjects}");
            }
            assert_eq!(pairs.len(), subjects * (subjects - 1));
        }
    }

    fn subjects() -> Vec<Subject> {
        let cgi = Subject { programs: Programs::Cgi, ..Subject::default() };
        vec![cgi.clone(), Subject { only_small: true, ..Subject::default() }, cgi]
    }

    #[test]
    fn rounds_are_outermost_and_what_a_server_lacks_is_left_out() {
        let cells = cells_named(&["close".into(), "file-10m".into()]).unwrap();
        let steps = capacities(&cells, &subjects(), 2);
        assert_eq!(steps.len(), 2 * (3 + 2));
        assert!(steps.is_sorted_by_key(|step| step.round));
        let unique: std::collections::HashSet<Step> = steps.iter().copied().collect();
        assert_eq!(unique.len(), steps.len());
        assert!(steps.iter().all(|step| step.key.load().what.bytes() == 1 << 10 || step.subject != 1));
    }

    #[test]
    fn only_three_cells_are_paced_and_one_has_its_knee() {
        let all = cells_named(&[]).unwrap();
        let keys: BTreeSet<String> = paced(&all, &subjects(), 1).iter().map(|step| step.key.to_string()).collect();
        assert_eq!(keys.len(), 3 * 3 + 1, "{keys:?}");
        assert!(keys.contains("keepalive-64@ramp") && keys.contains("cgi-hello@80"));
    }

    #[test]
    fn the_time_that_is_given_is_used_and_not_exceeded() {
        let all = cells_named(&[]).unwrap();
        let many: Vec<Subject> = (0..14).map(|_| Subject::default()).collect();
        let steps = [capacities(&all, &many, 5), paced(&all, &many, 5)].concat();
        for minutes in [25, 40, 180] {
            let time = Duration::from_secs(minutes * 60);
            let lengths = Lengths::within(time, &steps).unwrap();
            let taken = lengths.all(&steps);
            assert!(taken <= time && taken.as_secs_f64() > time.as_secs_f64() * 0.95, "{minutes}: {taken:?}");
        }
        assert!(Lengths::within(Duration::from_secs(60), &steps).is_err());
    }

    #[test]
    fn an_unknown_cell_is_refused_by_name() {
        assert!(cells_named(&["nothing".into()]).unwrap_err().contains("keepalive-64"));
        assert_eq!(cells_named(&[]).unwrap().len(), CELLS.len());
    }
}
