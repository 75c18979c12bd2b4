//! Reads the text of `/metrics` more strictly than any collector does: what one of them would forgive fails the test.
#![allow(dead_code, unreachable_pub, reason = "each test binary compiles its own copy and uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

/// Which form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Prometheus,
    OpenMetrics,
}

/// Everything that was said.
#[derive(Debug)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
}

#[derive(Debug)]
pub struct Family {
    pub is: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Exposition {
    #[track_caller]
    pub fn parse(text: &str, form: Form) -> Exposition {
        assert!(text.ends_with('\n'), "the last line ends");
        let body = match form {
            Form::Prometheus => text,
            Form::OpenMetrics => text.strip_suffix("# EOF\n").expect("the last line is # EOF"),
        };
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut series = BTreeSet::new();
        let mut current = String::new();
        let mut helped = None;
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                assert!(
                    help.len() > 3 && !families.contains_key(name),
                    "{line}: a family is described once, and first"
                );
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, is) = rest.split_once(' ').expect("a type");
                assert_eq!(helped.take().as_deref(), Some(name), "{line}: after its help");
                let known = match form {
                    Form::Prometheus => &["counter", "gauge", "histogram"][..],
                    Form::OpenMetrics => &["counter", "gauge", "histogram", "info"],
                };
                assert!(known.contains(&is) && is_name(name), "{line}");
                let counter = (is, name.ends_with("_total"));
                let fine = if form == Form::Prometheus { counter != ("counter", false) } else { !counter.1 };
                assert!(fine, "{line}: the name of a counter");
                families.insert(name.to_owned(), Family { is: is.to_owned(), samples: Vec::new() });
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').expect("a unit");
                assert!(form == Form::OpenMetrics && name == current && name.ends_with(&format!("_{unit}")), "{line}");
                assert!(families[name].samples.is_empty(), "{line}: before the samples");
            } else {
                assert!(!line.starts_with('#') && !line.is_empty(), "a line that is none: {line:?}");
                let sample = sample(line);
                assert!(series.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
                let family = families.get_mut(&current).unwrap_or_else(|| panic!("before any family: {line}"));
                assert!(
                    suffixes(&family.is, form).iter().any(|suffix| sample.name == format!("{current}{suffix}")),
                    "{line} in {current}"
                );
                if family.is != "gauge" {
                    assert!(sample.value >= 0.0, "{line}: it only grows");
                }
                family.samples.push(sample);
            }
        }
        let all = Exposition { families };
        all.families
            .iter()
            .filter(|(_, family)| family.is == "histogram")
            .for_each(|(name, family)| histogram(name, family));
        all
    }

    /// The sum of a metric over the series that have these labels, among others. 0 where there is none.
    #[track_caller]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples: Vec<&Sample> =
            self.families.values().flat_map(|family| &family.samples).filter(|sample| sample.name == name).collect();
        assert!(!samples.is_empty(), "there is no {name}");
        let has = |sample: &&&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
        };
        samples.iter().filter(has).map(|sample| sample.value).sum()
    }

    /// Names, types and series, without the values.
    pub fn shape(&self) -> BTreeSet<(String, BTreeMap<String, String>)> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.map(|sample| (sample.name.clone(), sample.labels.clone())).collect()
    }
}

fn suffixes(is: &str, form: Form) -> &'static [&'static str] {
    match (is, form) {
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        ("counter", Form::OpenMetrics) => &["_total"],
        ("info", _) => &["_info"],
        _ => &[""],
    }
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(name_end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, more) = inside.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(label) && !label.contains(':') && !label.starts_with("__"), "{line}");
            let mut value = String::new();
            let mut chars = more.char_indices();
            let end = loop {
                match chars.next() {
                    Some((_, '\\')) => value.push(match chars.next() {
                        Some((_, 'n')) => '\n',
                        Some((_, c @ ('\\' | '"'))) => c,
                        other => panic!("an escape that is none ({other:?}): {line}"),
                    }),
                    Some((at, '"')) => break at,
                    Some((_, c)) => value.push(c),
                    None => panic!("a value without an end: {line}"),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "a label twice: {line}");
            rest = &more[end + 1..];
            match rest.strip_prefix(',') {
                Some(next) => inside = next,
                None => break rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("no end of the labels: {line}")),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let plain = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && value.starts_with(|c: char| c.is_ascii_digit());
    assert!(plain, "a number in its simplest form: {line}");
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap_or_else(|_| panic!("not a number: {line}")) }
}

fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Of each series: buckets in order, cumulative, the last of them everything.
#[track_caller]
fn histogram(name: &str, family: &Family) {
    type Series<'s> = (Vec<(&'s str, f64)>, Option<f64>, Option<f64>);
    let mut all: BTreeMap<BTreeMap<String, String>, Series<'_>> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let le = labels.remove("le");
        let (buckets, sum, count) = all.entry(labels).or_default();
        match (&sample.name[name.len()..], le) {
            ("_bucket", Some(_)) => {
                assert!(sum.is_none() && count.is_none(), "{name}: buckets come first");
                buckets.push((sample.labels["le"].as_str(), sample.value));
            }
            ("_sum", None) => *sum = Some(sample.value),
            ("_count", None) => *count = Some(sample.value),
            other => panic!("{name}: {other:?}"),
        }
    }
    for (labels, (buckets, sum, count)) in all {
        let (last, bounded) = buckets.split_last().unwrap_or_else(|| panic!("{name}{labels:?}: no buckets"));
        let count = count.unwrap_or_else(|| panic!("{name}{labels:?}: no count"));
        let sum = sum.unwrap_or_else(|| panic!("{name}{labels:?}: no sum"));
        assert_eq!((last.0, last.1), ("+Inf", count), "{name}{labels:?}: the last bucket has everything");
        let bound = |le: &str| le.parse::<f64>().unwrap_or_else(|_| panic!("{name}: not a bound: {le}"));
        for pair in bounded.windows(2) {
            assert!(bound(pair[0].0) < bound(pair[1].0), "{name}{labels:?}: {pair:?} out of order");
        }
        for pair in buckets.windows(2) {
            assert!(pair[0].1 <= pair[1].1, "{name}{labels:?}: {pair:?} is not cumulative");
        }
        // Each took at least the bound of the bucket below its own, and nobody more than the sum.
        let mut least = 0.0;
        for pair in buckets.windows(2) {
            least += (pair[1].1 - pair[0].1) * bound(pair[0].0);
        }
        assert!(sum >= least * 0.999_999, "{name}{labels:?}: a sum of {sum} for at least {least}");
        assert!(count > 0.0 || sum == 0.0, "{name}{labels:?}: a sum of nothing");
    }
}
