//! Several runs as one, without loss: the histograms are those of all samples together, and the counts add up. So the runs
//! of several machines against one server are one run.

use std::collections::BTreeMap;

use crate::record::{ErrorTally, GeneratorUsage, Hist, Interval, Load, PackedHist, Run, RunFacts, Tally, UrlResult};
use crate::verdict::{Reason, Slo, Validity};

/// Runs that began further apart than this share of their window were not one load.
const APART_SHARE_MAX: f64 = 0.10;

/// Makes one run of several.
///
/// # Errors
/// In words, why these cannot be one.
pub fn merge(runs: &[Run]) -> Result<Run, String> {
    let [first, rest @ ..] = runs else { return Err(String::from("there is no run to merge")) };
    for run in rest {
        same("--interval", first.interval_ns, run.interval_ns)?;
        same("--warmup", first.facts.warmup_ns, run.facts.warmup_ns)?;
    }
    let all: Vec<RunFacts> = runs.iter().flat_map(parts).cloned().collect();
    // Two runs never agree in every nanosecond.
    if let Some(twice) = all.iter().enumerate().find_map(|(at, facts)| all[..at].contains(facts).then_some(at + 1)) {
        return Err(format!("run {twice} is there already: the same run twice would count its requests twice"));
    }
    let mut merged = Run::empty(facts(runs));
    merged.interval_ns = first.interval_ns;
    merged.parts = all;
    for run in runs {
        add_counts(&mut merged, run);
    }
    merged.urls = urls(runs, &merged.facts.urls);
    merged.errors = errors(runs, &merged.facts.urls);
    merged.intervals = intervals(runs)?;
    merged.slo = slo(runs, &merged);
    merged.validity = validity(runs);
    Ok(merged)
}

fn same(flag: &str, a: u64, b: u64) -> Result<(), String> {
    let shown = super::units::duration;
    if a == b { Ok(()) } else { Err(format!("the runs differ in {flag}: {} and {}", shown(a), shown(b))) }
}

/// The runs that a run was made of: itself, if of none.
fn parts(run: &Run) -> &[RunFacts] {
    if run.parts.is_empty() { std::slice::from_ref(&run.facts) } else { &run.parts }
}

fn add_counts(merged: &mut Run, run: &Run) {
    merged.measured.merge(&run.measured);
    merged.warmup.merge(&run.warmup);
    for (&status, &count) in &run.statuses {
        *merged.statuses.entry(status).or_default() += count;
    }
    let (sum, one) = (&mut merged.latency, &run.latency);
    let latencies = [
        (&mut sum.response, &one.response),
        (&mut sum.service, &one.service),
        (&mut sum.first_byte, &one.first_byte),
        (&mut sum.connect, &one.connect),
    ];
    let (sum, one) = (&mut merged.generator, &run.generator);
    let own = [(&mut sum.lag, &one.lag), (&mut sum.batch, &one.batch), (&mut sum.reap, &one.reap)];
    for (sum, one) in latencies.into_iter().chain(own) {
        sum.add(one);
    }
    merged.connections.merge(&run.connections);
}

/// What is known of all of them: sums where things add up, the worst where they do not.
fn facts(runs: &[Run]) -> RunFacts {
    let all: Vec<&RunFacts> = runs.iter().map(|run| &run.facts).collect();
    let first = all[0];
    let window_ns = all.iter().map(|facts| facts.window_ns()).max().unwrap_or(0);
    let mut host = first.host.clone();
    if all.iter().any(|facts| !facts.host.differences(&host).is_empty()) {
        host.cpu_model = String::from("several machines, the first");
    }
    let mut urls: Vec<String> = Vec::new();
    for url in all.iter().flat_map(|facts| &facts.urls) {
        if !urls.contains(url) {
            urls.push(url.clone());
        }
    }
    // Generators that watched one server each saw all of its work.
    let servers: Vec<_> = all.iter().map(|facts| facts.server.as_ref()).collect();
    let one_server = servers.iter().all(|server| server.map(|s| s.pid) == servers[0].map(|s| s.pid));
    let server = servers.iter().flatten().filter(|_| one_server).max_by_key(|server| server.cpu_ns());
    RunFacts {
        host,
        load: load(&all),
        urls,
        started_unix_ms: all.iter().map(|facts| facts.started_unix_ms).min().unwrap_or(0),
        elapsed_ns: first.warmup_ns + window_ns,
        generator: generator(&all),
        server: server.map(|server| (*server).clone()),
        steal_share: all.iter().filter_map(|facts| facts.steal_share).reduce(f64::max),
        listen_overflows: all.iter().filter_map(|facts| facts.listen_overflows).max(),
        ..first.clone()
    }
}

fn load(all: &[&RunFacts]) -> Load {
    let sum = |what: fn(&Load) -> u64| all.iter().map(|facts| what(&facts.load)).sum::<u64>();
    let narrow = |sum: u64| u32::try_from(sum).unwrap_or(u32::MAX);
    let first = &all[0].load;
    let one_schedule = all.iter().all(|facts| facts.load.schedule == first.schedule);
    Load {
        schedule: first.schedule.clone().map(|schedule| match (all.len(), one_schedule) {
            (1, _) => schedule,
            (n, true) => format!("{n} times {schedule}"),
            (n, false) => format!("{n} schedules"),
        }),
        connections: narrow(sum(|load| u64::from(load.connections))),
        threads: narrow(sum(|load| u64::from(load.threads))),
        pipeline: all.iter().map(|facts| facts.load.pipeline).max().unwrap_or(0),
        offered_requests: all.iter().map(|facts| facts.load.offered_requests).sum(),
        unsent_requests: sum(|load| load.unsent_requests),
        unanswered_requests: sum(|load| load.unanswered_requests),
        model: first.model,
    }
}

fn generator(all: &[&RunFacts]) -> GeneratorUsage {
    all.iter().fold(GeneratorUsage::default(), |sum, facts| GeneratorUsage {
        cpu_ns: sum.cpu_ns + facts.generator.cpu_ns,
        spin_ns: sum.spin_ns + facts.generator.spin_ns,
        busiest_thread_share: sum.busiest_thread_share.max(facts.generator.busiest_thread_share),
        rss_bytes: sum.rss_bytes + facts.generator.rss_bytes,
        enters: sum.enters + facts.generator.enters,
    })
}

/// By name. A single URL's answers are those of its run, and get a histogram of their own when there are others now.
fn urls(runs: &[Run], names: &[String]) -> Vec<UrlResult> {
    let mut results: Vec<UrlResult> =
        names.iter().map(|url| UrlResult { url: url.clone(), tally: Tally::default(), response: None }).collect();
    for run in runs {
        for url in &run.urls {
            let Some(result) = results.iter_mut().find(|result| result.url == url.url) else { continue };
            result.tally.merge(&url.tally);
            let whole = (run.urls.len() == 1 && names.len() > 1).then_some(&run.latency.response);
            if let Some(response) = url.response.as_ref().or(whole) {
                result.response.get_or_insert_with(Hist::coarse_durations).add(response);
            }
        }
    }
    results
}

/// By kind; the first examples point to the merged list of URLs.
fn errors(runs: &[Run], names: &[String]) -> Vec<crate::record::ErrorKind> {
    let mut tally = ErrorTally::new();
    for run in runs {
        tally.merge(run.errors.iter().cloned().map(|mut kind| {
            let name = run.facts.urls.get(usize::from(kind.first.url));
            let place = names.iter().position(|known| Some(known) == name);
            kind.first.url = place.and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX);
            kind
        }));
    }
    tally.into_kinds()
}

/// By their place in the run.
fn intervals(runs: &[Run]) -> Result<Vec<Interval>, String> {
    let mut by_start: BTreeMap<u64, (Interval, Hist)> = BTreeMap::new();
    for interval in runs.iter().flat_map(|run| &run.intervals) {
        let empty = || (Interval { start_ns: interval.start_ns, ..Interval::default() }, Hist::durations());
        let (sum, response) = by_start.entry(interval.start_ns).or_insert_with(empty);
        sum.duration_ns = sum.duration_ns.max(interval.duration_ns);
        sum.responses += interval.responses;
        sum.errors += interval.errors;
        sum.wire_bytes += interval.wire_bytes;
        response.add(&interval.response.unpack()?);
    }
    let packed = by_start.into_values().map(|(mut interval, response)| {
        interval.response = PackedHist::pack(&response);
        interval
    });
    Ok(packed.collect())
}

/// The same promise, held against all of it.
fn slo(runs: &[Run], merged: &Run) -> Option<crate::verdict::SloResult> {
    let text = |run: &Run| -> Option<String> {
        let terms: Vec<&str> = run.slo.as_ref()?.terms.iter().map(|term| term.term.as_str()).collect();
        Some(terms.join(","))
    };
    let promised = text(&runs[0])?;
    let all = runs.iter().all(|run| text(run).as_ref() == Some(&promised));
    Some(promised.parse::<Slo>().ok().filter(|_| all)?.evaluate(merged))
}

/// What speaks against any of them speaks against all; and so does a load that was not one.
fn validity(runs: &[Run]) -> Validity {
    let several = runs.len() > 1;
    let own = runs.iter().zip(1..).flat_map(|(run, number)| {
        let name = move |text: &str| if several { format!("run {number}: {text}") } else { text.to_owned() };
        run.validity.reasons.iter().map(move |reason| Reason { verdict: reason.verdict, text: name(&reason.text) })
    });
    Validity::of(own.chain(apart(runs).map(Reason::invalid)).collect())
}

/// In words, why rates do not add up, if they do not.
fn apart(runs: &[Run]) -> Option<String> {
    let spread = |values: Vec<u64>| Some((*values.iter().max()?, *values.iter().min()?));
    let (longest, shortest) = spread(runs.iter().map(|run| run.facts.window_ns()).collect())?;
    let (last, first) = spread(runs.iter().map(|run| run.facts.started_unix_ms).collect())?;
    let bound = longest as f64 * APART_SHARE_MAX;
    let (begun, length) = ((last - first).saturating_mul(1_000_000), longest - shortest);
    if begun as f64 > bound {
        let apart = super::units::duration(begun);
        return Some(format!("the runs began {apart} apart, so their rates do not add up; their latencies do"));
    }
    (length as f64 > bound).then(|| String::from("the runs were not equally long, so their rates do not add up"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples;
    use super::*;
    use crate::record::{Recorder, Unit};

    #[test]
    fn one_run_merged_is_the_run_itself() {
        for run in [samples::closed(), samples::open()] {
            let mut merged = merge(std::slice::from_ref(&run)).expect("one run");
            assert_eq!(std::mem::take(&mut merged.parts), std::slice::from_ref(&run.facts));
            assert_eq!(merged, run);
        }
    }

    #[test]
    fn two_machines_add_up() {
        let (a, mut b) = (samples::open(), samples::open());
        b.facts.seed = 43;
        b.facts.urls.swap(0, 1);
        b.urls.swap(0, 1);
        b.errors.iter_mut().for_each(|kind| kind.first.url = 1 - kind.first.url);
        let merged = merge(&[a.clone(), b]).expect("two runs");
        assert_eq!(merged.measured.responses, 2 * a.measured.responses);
        assert_eq!(merged.requests_per_second(), 2.0 * a.requests_per_second());
        assert_eq!(merged.facts.load.offered_requests, Some(400_020));
        assert_eq!(merged.facts.load.schedule.as_deref(), Some("2 times poisson, 100000/s"));
        let doubled = |kind: &crate::record::ErrorKind| (kind.class, 2 * kind.count, kind.first.clone());
        let single = |kind: &crate::record::ErrorKind| (kind.class, kind.count, kind.first.clone());
        assert_eq!(
            merged.errors.iter().map(single).collect::<Vec<_>>(),
            a.errors.iter().map(doubled).collect::<Vec<_>>()
        );
        let urls = |run: &Run| run.urls.iter().map(|url| (url.url.clone(), url.tally.responses)).collect::<Vec<_>>();
        assert_eq!(urls(&merged), urls(&a).into_iter().map(|(url, count)| (url, 2 * count)).collect::<Vec<_>>());
        assert_eq!(merged.connections.connections, 8);
        assert_eq!(merged.slo.expect("the same SLO").outcome, a.slo.expect("an SLO").outcome);
        assert!(merged.validity.line().contains("run 2: 4 errors"), "{}", merged.validity.line());
        assert_eq!(merged.parts.len(), 2);
    }

    #[test]
    fn runs_of_one_url_each_keep_them_apart() {
        let (a, mut b) = (samples::closed(), samples::closed());
        b.facts.urls = vec![String::from("/other")];
        b.urls[0].url = String::from("/other");
        let merged = merge(&[a, b]).expect("two runs");
        let counts: Vec<_> = merged.urls.iter().map(|url| url.response.as_ref().map(Hist::count)).collect();
        assert_eq!(counts, [Some(200_000), Some(200_000)]);
    }

    #[test]
    fn what_is_not_one_load_is_refused_or_said() {
        let (a, mut b) = (samples::closed(), samples::closed());
        b.facts.started_unix_ms += 60_000;
        let line = merge(&[a.clone(), b]).expect("merged").validity.line();
        assert_eq!(line, "INVALID: the runs began 60.0 s apart, so their rates do not add up; their latencies do");
        let mut other = a.clone();
        other.interval_ns *= 2;
        let error = merge(&[a, other]).expect_err("other intervals");
        assert_eq!(error, "the runs differ in --interval: 500 ms and 1.00 s");
        assert!(merge(&[]).is_err());
    }

    #[test]
    fn the_same_run_is_not_counted_twice() {
        let (a, mut b) = (samples::closed(), samples::closed());
        b.facts.seed = 43;
        let error = merge(&[a.clone(), b.clone(), a.clone()]).expect_err("a is there twice");
        assert!(error.starts_with("run 3 is there already"), "{error}");
        let both = merge(&[a.clone(), b]).expect("two runs");
        assert!(merge(&[both, a]).is_err(), "it is a part of both");
    }

    proptest! {
        #[test]
        fn merged_histograms_are_those_of_all_samples(
            machines in proptest::collection::vec(proptest::collection::vec((0..2_000_u64, any::<u32>()), 0..60), 1..5),
        ) {
            let run = |(seed, samples): (u64, &Vec<(u64, u32)>)| {
                let mut samples = samples.clone();
                samples.sort_unstable();
                let mut run = samples::recorded_at(&samples);
                run.facts.seed = seed;
                run
            };
            let runs: Vec<Run> = (1..).zip(&machines).map(run).collect();
            let (merged, all) = (merge(&runs).expect("alike"), run((1, &machines.concat())));
            prop_assert_eq!(&merged.latency, &all.latency);
            prop_assert_eq!(&merged.generator, &all.generator);
            prop_assert_eq!(&merged.measured, &all.measured);
            prop_assert_eq!(&merged.statuses, &all.statuses);
            prop_assert_eq!(&merged.intervals, &all.intervals);
            prop_assert_eq!(merged.latency.response.unit(), Unit::Ns);
            let mut file = Vec::new();
            super::super::json::write(&merged, &mut file).expect("written");
            prop_assert_eq!(super::super::json::read(file.as_slice()).expect("read"), merged);
        }
    }

    #[test]
    fn a_recorder_without_events_merges_too() {
        let empty = |seed| Recorder::merge(Vec::new(), RunFacts { seed, ..RunFacts::default() });
        assert_eq!(merge(&[empty(1), empty(2)]).expect("two").measured, Tally::default());
    }
}
