//! What came of a comparison, in memory: of each server in each cell the figures of the rounds, and their answers together.

use std::collections::BTreeMap;

use super::cell::{CELLS, Drive, Key, PERCENTS, What};
use super::measure::RAMP_PIECES;
use super::settings::Settings;
use super::stats::{self, Estimate};
use super::store::Store;
use crate::record::{Hist, Percentile, Run};
use crate::verdict::Verdict;

/// A comparison.
#[derive(Debug)]
pub struct Results {
    /// What was measured.
    pub settings: Settings,
    /// What came of it, by cell and by the server's place.
    rows: BTreeMap<(Key, usize), Row>,
}

/// A server in a cell.
#[derive(Debug, Default)]
pub struct Row {
    /// The rounds.
    pub rounds: Vec<Round>,
    /// Response times of all rounds that count.
    pub spectrum: Option<Hist>,
    /// A ramp in pieces, of all rounds that count.
    pub ramp: Vec<Piece>,
    /// How it was driven otherwise.
    pub note: Option<String>,
}

/// One round of a server in a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// Its number, from 0.
    pub number: u32,
    /// How far to believe it.
    pub verdict: Verdict,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// Right answers a second.
    pub rate: f64,
    /// What was wanted a second.
    pub offered: Option<f64>,
    /// CPU time of the server's processes for an answer, in nanoseconds.
    pub processes_ns: Option<f64>,
    /// The same of its core.
    pub core_ns: Option<f64>,
    /// Response times, in nanoseconds, where there are enough answers to say so.
    pub p50_ns: Option<f64>,
    /// Likewise.
    pub p99_ns: Option<f64>,
    /// Resident memory of the server at the end.
    pub rss_bytes: Option<f64>,
    /// Its context switches, for an answer.
    pub switches: Option<f64>,
    /// What the server said.
    pub said: String,
}

/// A piece of a ramp.
#[derive(Debug)]
pub struct Piece {
    /// What was wanted in its middle, a second.
    pub offered: f64,
    /// What was answered a second, by round.
    pub answered: Vec<f64>,
    /// Response times.
    pub response: Hist,
}

/// A figure of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Right answers a second.
    Rate,
    /// CPU time for an answer, in nanoseconds; of programs, that of the core.
    Cpu,
    /// The busy time of the server's core for an answer, in nanoseconds.
    Core,
    /// The median response time, in nanoseconds.
    P50,
    /// The 99th percentile, in nanoseconds.
    P99,
    /// Resident memory.
    Rss,
    /// Context switches for an answer.
    Switches,
}

/// What a table says of a server in a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The number.
    pub estimate: Estimate,
    /// How far to believe it.
    pub belief: Belief,
}

/// How far to believe a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// Every round is valid.
    Sound,
    /// Every round is valid, or one whose generator was the limit: a rate is a lower bound.
    AtLeast,
    /// Only so many of so many rounds are valid; the figure is theirs.
    Partly(usize, usize),
    /// No round is; the figure is that of the rounds all the same.
    Invalid,
}

impl Results {
    /// Reads a folder of results.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn read(store: &Store, settings: &Settings) -> Result<Results, String> {
        let mut results = Results { settings: settings.clone(), rows: BTreeMap::new() };
        for step in settings.first_part().into_iter().chain(settings.second_part()) {
            let server = &settings.servers[step.subject].subject.name;
            if let Some(cell) = store.cell(step.key, server, step.round)? {
                results.add(
                    step.key,
                    step.subject,
                    step.round,
                    &cell.run,
                    &cell.facts.said,
                    cell.facts.note,
                    cell.facts.offered,
                )?;
            }
        }
        Ok(results)
    }

    /// Without anything measured yet.
    #[must_use]
    pub fn empty(settings: Settings) -> Results {
        Results { settings, rows: BTreeMap::new() }
    }

    /// Takes a round in.
    ///
    /// # Errors
    /// When the run's intervals cannot be read.
    #[allow(
        clippy::too_many_arguments,
        reason = "a round has these parts, and one caller each in the program and its tests"
    )]
    pub fn add(
        &mut self,
        key: Key,
        subject: usize,
        number: u32,
        run: &Run,
        said: &str,
        note: Option<String>,
        offered: Option<(f64, f64)>,
    ) -> Result<(), String> {
        let row = self.rows.entry((key, subject)).or_default();
        row.note = note;
        let valid = !run.validity.is_invalid();
        row.rounds.push(Round::of(number, run, said, offered));
        if valid && key.drive != Drive::Ramp {
            row.spectrum.get_or_insert_with(Hist::durations).add(&run.latency.response);
        }
        if let (true, Drive::Ramp, Some((from, to))) = (valid, key.drive, offered) {
            row.add_ramp(run, from, to)?;
        }
        Ok(())
    }

    /// A server in a cell, if it was measured there.
    #[must_use]
    pub fn row(&self, key: Key, subject: usize) -> Option<&Row> {
        self.rows.get(&(key, subject)).filter(|row| !row.rounds.is_empty())
    }

    /// Every row that there is.
    pub fn rows(&self) -> impl Iterator<Item = (Key, usize, &Row)> {
        self.rows.iter().map(|((key, subject), row)| (*key, *subject, row))
    }

    /// The place of a server.
    #[must_use]
    pub fn subject(&self, name: &str) -> Option<usize> {
        self.settings.servers.iter().position(|entrant| entrant.subject.name == name)
    }

    /// The name of a server.
    #[must_use]
    pub fn name(&self, subject: usize) -> &str {
        &self.settings.servers[subject].subject.name
    }

    /// The figure of a server in a cell; `None` where there is none.
    #[must_use]
    pub fn figure(&self, key: Key, subject: usize, metric: Metric) -> Option<Figure> {
        let row = self.row(key, subject)?;
        let belief = row.belief();
        let counts = |round: &&Round| belief == Belief::Invalid || round.verdict != Verdict::Invalid;
        let values: Vec<f64> = row.rounds.iter().filter(counts).filter_map(|round| round.figure(key, metric)).collect();
        let counted = row.rounds.iter().filter(counts).count();
        // A percentile that not every round can say, all of them together may: without an interval then.
        let together = match metric {
            Metric::P50 => Some(Percentile::P50),
            Metric::P99 => Some(Percentile::P99),
            _ => None,
        };
        if let (Some(percentile), true) = (together, values.len() < counted) {
            let value = row.spectrum.as_ref()?.at(percentile)? as f64;
            return Some(Figure { estimate: stats::estimate(&[value])?, belief });
        }
        Some(Figure { estimate: stats::estimate(&values)?, belief })
    }

    /// How two servers compare there, round by round; only rounds that are valid for both count.
    #[must_use]
    pub fn ratio(&self, key: Key, metric: Metric, one: &str, other: &str) -> Option<Estimate> {
        let values = |name: &str| -> Option<Vec<(u32, f64)>> {
            let row = self.row(key, self.subject(name)?)?;
            let valid = row.rounds.iter().filter(|round| round.verdict != Verdict::Invalid);
            Some(valid.filter_map(|round| Some((round.number, round.figure(key, metric)?))).collect())
        };
        stats::ratio(&values(one)?, &values(other)?)
    }

    /// The keys that there is something of, in the order of tables.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.rows.keys().map(|(key, _)| *key).collect();
        keys.dedup();
        keys
    }

    /// The rates of the open loops, from what was measured: the slowest in each cell, and everybody's own where the knee is
    /// looked for. What is invalid throughout, or was never answered, sets no rate.
    #[must_use]
    pub fn rates(&self) -> super::settings::Rates {
        let mut rates = super::settings::Rates::default();
        for cell in self.settings.cell_places() {
            let key = Key::capacity(cell);
            for subject in 0..self.settings.servers.len() {
                let Some(figure) = self.figure(key, subject, Metric::Rate) else { continue };
                let rate = figure.estimate.median;
                if figure.belief == Belief::Invalid || rate <= 0.0 {
                    continue;
                }
                let name = self.name(subject).to_owned();
                if CELLS[cell].paced && self.settings.servers[subject].subject.paced {
                    let slowest = rates.slowest.entry(CELLS[cell].name.to_owned()).or_insert((rate, name.clone()));
                    if rate < slowest.0 {
                        *slowest = (rate, name.clone());
                    }
                }
                if CELLS[cell].name == super::cell::KNEE_CELL {
                    rates.own.insert(name, rate);
                }
            }
        }
        rates
    }

    /// The keys of a cell at the rates that all are offered.
    #[must_use]
    pub fn paced_keys(cell: usize) -> [Key; 3] {
        PERCENTS.map(|percent| Key { cell, drive: Drive::Paced(percent) })
    }
}

impl Row {
    /// How far to believe its figures.
    #[must_use]
    pub fn belief(&self) -> Belief {
        let of = |verdict| self.rounds.iter().filter(|round| round.verdict == verdict).count();
        match (of(Verdict::Invalid), of(Verdict::GeneratorLimited), self.rounds.len()) {
            (0, 0, _) => Belief::Sound,
            (0, _, _) => Belief::AtLeast,
            (invalid, _, all) if invalid == all => Belief::Invalid,
            (invalid, _, all) => Belief::Partly(all - invalid, all),
        }
    }

    fn add_ramp(&mut self, run: &Run, from: f64, to: f64) -> Result<(), String> {
        let length_ns = run.interval_ns.max(1);
        // What is answered after the last moment of the schedule belongs to no rate.
        let intervals = run.intervals.iter().take(RAMP_PIECES as usize).enumerate();
        for (number, interval) in intervals {
            let middle = (number as f64 + 0.5) / f64::from(RAMP_PIECES);
            if self.ramp.len() <= number {
                let offered = from + (to - from) * middle;
                self.ramp.push(Piece { offered, answered: Vec::new(), response: Hist::durations() });
            }
            let piece = &mut self.ramp[number];
            piece.answered.push(crate::record::per_second(interval.responses, length_ns));
            piece.response.add(&interval.response.unpack()?);
        }
        Ok(())
    }
}

impl Round {
    fn of(number: u32, run: &Run, said: &str, offered: Option<(f64, f64)>) -> Round {
        let answers = run.measured.responses as f64;
        let per_answer = |ns: u64| (answers > 0.0).then(|| ns as f64 / answers);
        let server = run.facts.server.as_ref();
        let percentile = |percentile| run.latency.response.at(percentile).map(|ns| ns as f64);
        Round {
            number,
            verdict: run.validity.verdict,
            reasons: run.validity.reasons.iter().map(|reason| reason.text.clone()).collect(),
            rate: run.requests_per_second(),
            offered: offered.map(|(_, to)| to),
            processes_ns: server.and_then(|server| per_answer(server.cpu_ns())),
            core_ns: server.and_then(|server| per_answer(server.core_busy_ns?)),
            p50_ns: percentile(Percentile::P50),
            p99_ns: percentile(Percentile::P99),
            rss_bytes: server.map(|server| server.rss_bytes as f64),
            switches: server.and_then(|server| per_answer(server.context_switches)),
            said: said.to_owned(),
        }
    }

    /// The figure, if it is known.
    #[must_use]
    pub fn figure(&self, key: Key, metric: Metric) -> Option<f64> {
        let program = matches!(key.load().what, What::Hello | What::Output);
        match metric {
            Metric::Rate => Some(self.rate).filter(|_| self.verdict != Verdict::Invalid || self.rate > 0.0),
            // A server that lets the kernel reap its children is not charged for them.
            Metric::Cpu if program => self.core_ns.or(self.processes_ns),
            Metric::Cpu => self.processes_ns,
            Metric::Core => self.core_ns,
            Metric::P50 => self.p50_ns,
            Metric::P99 => self.p99_ns,
            Metric::Rss => self.rss_bytes,
            Metric::Switches => self.switches,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::settings::Entrant;
    use super::super::subject::{self, Subject};
    use super::*;
    use crate::record::ServerUsage;
    use crate::report::samples;
    use crate::verdict::{Reason, Validity};

    /// A comparison of these servers in these cells, without results.
    pub(in crate::bench) fn settings(servers: &[&str], cells: &[&str], rounds: u32) -> Settings {
        let known = subject::known();
        let entrant = |name: &&str| Entrant {
            subject: known.iter().find(|subject| subject.name == **name).cloned().unwrap_or_else(|| Subject {
                name: (*name).to_owned(),
                programs: subject::Programs::Cgi,
                ..Subject::default()
            }),
            version_found: Some(format!("{name} 1.0")),
            program_crc32: Some(7),
        };
        Settings {
            schema: super::super::settings::SCHEMA.to_owned(),
            question: "test".into(),
            command_line: vec!["loadgen".into(), "bench".into()],
            host: samples::closed().facts.host,
            host_name: "host".into(),
            congestion_control: "cubic".into(),
            date: "2026-11-21".into(),
            rounds,
            seconds: 1.0,
            warmup: 0.2,
            server_cpus: vec![1],
            generator_cpus: vec![0],
            cells: cells.iter().map(|cell| (*cell).to_owned()).collect(),
            servers: servers.iter().map(entrant).collect(),
            seed: 1,
            rates: None,
        }
    }

    /// A run of so many answers over two seconds that took the server so many nanoseconds each.
    pub(in crate::bench) fn run(answers: u64, cpu_ns: u64, stretch: f64) -> Run {
        let mut run = samples::stretched(answers, stretch);
        run.facts.server = Some(ServerUsage {
            system_ns: answers * cpu_ns,
            core_busy_ns: Some(answers * cpu_ns * 2),
            rss_bytes: 9 << 20,
            core: Some(1),
            ..ServerUsage::default()
        });
        run.validity = Validity::of(Vec::new());
        run
    }

    pub(in crate::bench) fn invalid(why: &str) -> Run {
        let mut run = run(0, 0, 1.0);
        run.validity = Validity::of(vec![Reason::invalid(why.to_owned())]);
        run
    }

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    fn with(rounds: &[Run]) -> Results {
        let mut results = Results::empty(settings(&["nginx", "ucaffeine"], &["close", "cgi-hello"], 5));
        for (number, run) in (0..).zip(rounds) {
            results.add(key("close"), 0, number, run, "", None, None).unwrap();
        }
        results
    }

    #[test]
    fn the_figure_is_the_median_of_the_rounds() {
        let results = with(&[run(2_000, 5_000, 1.0), run(4_000, 7_000, 1.0), run(6_000, 6_000, 1.0)]);
        let figure = |metric| results.figure(key("close"), 0, metric).unwrap();
        assert_eq!((figure(Metric::Rate).estimate.median, figure(Metric::Cpu).estimate.median), (2_000.0, 6_000.0));
        assert_eq!((figure(Metric::Core).estimate.median, figure(Metric::Rate).belief), (12_000.0, Belief::Sound));
        assert!(results.figure(key("close"), 1, Metric::Rate).is_none());
    }

    #[test]
    fn invalid_rounds_are_counted_out_and_said_and_where_all_are_they_are_shown_all_the_same() {
        let some = with(&[run(2_000, 5_000, 1.0), invalid("no"), run(6_000, 5_000, 1.0)]);
        let figure = some.figure(key("close"), 0, Metric::Rate).unwrap();
        assert_eq!((figure.estimate.median, figure.belief), (2_000.0, Belief::Partly(2, 3)));
        let mut late = run(6_000, 5_000, 1.0);
        late.validity = invalid("late").validity;
        let none = with(&[late, invalid("no")]);
        let figure = none.figure(key("close"), 0, Metric::Rate).unwrap();
        assert_eq!((figure.estimate.median, figure.belief), (3_000.0, Belief::Invalid));
        assert!(none.rates().slowest.is_empty(), "what is invalid sets no rate");
    }

    #[test]
    fn a_percentile_that_no_round_can_say_is_said_by_all_together() {
        let results = with(&vec![run(4_000, 5_000, 1.0); 3]);
        let p99 = results.figure(key("close"), 0, Metric::P99).unwrap().estimate;
        assert_eq!(p99.rounds, 1, "12,000 answers say it, 4,000 do not");
        assert_eq!(results.figure(key("close"), 0, Metric::P50).unwrap().estimate.rounds, 3);
        assert!(with(&vec![run(400, 5_000, 1.0); 3]).figure(key("close"), 0, Metric::P99).is_none());
    }

    #[test]
    fn the_slowest_sets_the_rate() {
        let mut results = with(&[run(8_000, 5_000, 1.0)]);
        results.add(key("close"), 1, 0, &run(6_000, 5_000, 1.0), "", None, None).unwrap();
        results.add(key("cgi-hello"), 1, 0, &invalid("no"), "", None, None).unwrap();
        let rates = results.rates();
        assert_eq!(rates.slowest["close"], (3_000.0, "ucaffeine".to_owned()));
        assert!(!rates.slowest.contains_key("cgi-hello") && rates.own.is_empty());
    }

    #[test]
    fn programs_cost_what_the_core_says() {
        let round = Round::of(0, &run(100, 5, 1.0), "", None);
        assert_eq!(round.figure(key("close"), Metric::Cpu), Some(5.0));
        assert_eq!(round.figure(key("cgi-hello"), Metric::Cpu), Some(10.0));
    }

    #[test]
    fn a_ramp_is_cut_into_rates() {
        let mut results = Results::empty(settings(&["ucaffeine"], &["keepalive-64"], 2));
        let run = samples::closed();
        for round in 0..2 {
            results.add(key("keepalive-64@ramp"), 0, round, &run, "", None, Some((100.0, 1_300.0))).unwrap();
        }
        let row = results.row(key("keepalive-64@ramp"), 0).unwrap();
        assert_eq!(row.ramp.len(), run.intervals.len());
        assert_eq!((row.ramp[0].offered, row.ramp[1].offered), (150.0, 250.0));
        let whole: u64 = row.ramp.iter().map(|piece| piece.response.count()).sum();
        assert_eq!(whole, 2 * run.measured.responses);
        assert!(row.spectrum.is_none());
    }
}
