//! How much worse a metric may get on this machine: `results/gate.toml`, which `gate calibrate` writes and people may read.
//!
//! A margin is never below its floor, which is what a change of no meaning (the place of a function in the binary) can cost, and
//! never below 1.5 times the spread of the machine's own A/A pairs, below which a difference is hard to tell from noise.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::metric::{Difference, Each, Metric};
use super::stats;
use super::verdict::Margins;
use crate::record::Host;

/// The name and number of the schema.
pub const SCHEMA: &str = "loadgen-gate/1";
/// The smallest margins: identical sources, built twice, have been seen 1 to 4 % apart.
pub const FLOORS: Margins = Each { latency: 0.05, p99: 0.15, cpu: 0.03 };
/// A margin is at least so many spreads: with 16 pairs twice of that is found in all but a few of a hundred cases.
const SPREADS: f64 = 1.5;
/// On a machine that was not calibrated, margins are so much wider.
pub const UNKNOWN_FACTOR: f64 = 2.0;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`SCHEMA`].
    pub schema: String,
    /// Which machine.
    pub host: Machine,
    /// By scenario.
    #[serde(default)]
    pub scenario: BTreeMap<String, Calibrated>,
}

/// What must be the same for margins to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu_model: String,
    /// Processors.
    pub cores: u32,
    /// The kernel's release.
    pub kernel: String,
    /// Whether it is a virtual machine.
    pub virtual_machine: bool,
}

/// Of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// How many A/A pairs there were.
    pub pairs: usize,
    /// How far what they differ by lies apart ([`stats::spread`]), as a natural logarithm.
    pub spread: Each<f64>,
    /// How much worse each may get, as a share.
    pub margin: Margins,
}

impl Machine {
    /// Of a run's facts.
    #[must_use]
    pub fn of(host: &Host) -> Machine {
        let Host { cpu_model, cores, kernel, virtual_machine, .. } = host.clone();
        Machine { cpu_model, cores, kernel, virtual_machine }
    }
}

impl Calibrated {
    /// From the differences of A/A pairs.
    #[must_use]
    pub fn of(differences: &[Difference]) -> Calibrated {
        let spread = FLOORS.map(|metric, _| {
            stats::spread(&differences.iter().map(|difference| difference.of(metric)).collect::<Vec<_>>())
        });
        // Up to the next tenth of a percent.
        let margin =
            FLOORS.map(|metric, floor: f64| floor.max(((SPREADS * spread.of(metric)).exp_m1() * 1e3).ceil() / 1e3));
        Calibrated { pairs: differences.len(), spread, margin }
    }
}

impl Calibration {
    /// Reads the file. Nothing when it is not there.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn read(path: &Path) -> Result<Option<Calibration>, String> {
        let at = |why: String| format!("{}: {}", path.display(), why.lines().next().unwrap_or_default());
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| at(error.to_string()))?,
        };
        let found: Calibration = toml::from_str(&text).map_err(|error| at(error.message().to_owned()))?;
        if found.schema != SCHEMA {
            return Err(at(format!("its schema is `{}`, and this program reads `{SCHEMA}`", found.schema)));
        }
        for (name, calibrated) in &found.scenario {
            for metric in Metric::ALL {
                let margin = calibrated.margin.of(metric);
                if !(margin > 0.0 && margin < 10.0) {
                    return Err(at(format!("a margin of {margin} for {} of {name}", metric.name())));
                }
            }
        }
        Ok(Some(found))
    }

    /// As the file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::from(
            "# What `loadgen gate` tells apart from noise on one machine: docs/gate.md. Written by `loadgen gate calibrate`.\n\
             # A margin is the larger of its floor (latency 5 %, p99 15 %, cpu 3 %) and 1.5 times the spread of A/A pairs.\n",
        );
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let Machine { cpu_model, cores, kernel, virtual_machine } = &self.host;
        let _ = write!(
            out,
            "schema = {}\n\n[host]\ncpu_model = {}\ncores = {cores}\nkernel = {}\nvirtual_machine = {virtual_machine}\n",
            quoted(&self.schema),
            quoted(cpu_model),
            quoted(kernel)
        );
        for (name, Calibrated { pairs, spread, margin }) in &self.scenario {
            let each = |values: &Each<f64>| {
                let pairs = Metric::ALL.map(|metric| format!("{} = {:.4}", metric.name(), values.of(metric)));
                format!("{{ {} }}", pairs.join(", "))
            };
            let (spread, margin) = (each(spread), each(margin));
            let _ =
                write!(out, "\n[scenario.{}]\npairs = {pairs}\nspread = {spread}\nmargin = {margin}\n", quoted(name));
        }
        out
    }

    /// The margins of a scenario, and a remark where they are not this machine's own.
    #[must_use]
    pub fn margins(found: Option<&Calibration>, host: &Host, scenario: &str) -> (Margins, Option<String>) {
        let ours = Machine::of(host);
        let widened = |margins: Margins| margins.map(|_, margin: f64| margin * UNKNOWN_FACTOR);
        match found.and_then(|found| Some((found, found.scenario.get(scenario)?))) {
            Some((found, calibrated)) if found.host == ours => (calibrated.margin, None),
            Some((_, calibrated)) => {
                let remark = "the margins were calibrated on another machine, and are doubled: `gate calibrate` sets them for this one";
                (widened(calibrated.margin), Some(remark.to_owned()))
            }
            None => {
                let remark = "this machine was not calibrated, so the margins are the floors, doubled: `gate calibrate` sets them";
                (widened(FLOORS), Some(remark.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Calibration {
        let spread = Each { latency: 0.0312, p99: 0.2, cpu: 0.001 };
        let calibrated = Calibrated { pairs: 40, spread, margin: Each { latency: 0.05, p99: 0.222, cpu: 0.03 } };
        Calibration {
            schema: SCHEMA.to_owned(),
            host: Machine { cpu_model: "a \"CPU\"".into(), cores: 2, kernel: "6.18".into(), virtual_machine: true },
            scenario: BTreeMap::from([("keepalive".to_owned(), calibrated)]),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gate.toml");
        assert_eq!(Calibration::read(&path), Ok(None));
        std::fs::write(&path, sample().to_toml()).expect("written");
        assert_eq!(Calibration::read(&path), Ok(Some(sample())));
        for (from, to, why) in
            [("gate/1", "gate/9", "schema"), ("0.2220", "0.0", "margin of 0"), ("[host]", "[h", "gate.toml")]
        {
            std::fs::write(&path, sample().to_toml().replace(from, to)).expect("written");
            let error = Calibration::read(&path).expect_err(why);
            assert!(error.contains(why) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn a_margin_is_its_floor_or_the_spread_whichever_is_larger() {
        let pair = |by: f64| Difference { latency: by, p99: 3.0 * by, cpu: 0.0 };
        let calibrated = Calibrated::of(&[pair(0.1), pair(-0.1), pair(0.1), pair(-0.1)]);
        // The median distance is 0.1, the spread 0.14826, and 1.5 of it as a logarithm is 24.9 %.
        assert!((calibrated.spread.latency - 0.14826).abs() < 1e-9);
        assert_eq!(calibrated.margin, Margins { latency: 0.25, p99: 0.949, cpu: 0.03 });
        assert_eq!(Calibrated::of(&[]).margin, FLOORS);
    }

    #[test]
    fn another_machine_has_wider_margins() {
        let found = sample();
        let host = Host {
            cpu_model: "a \"CPU\"".into(),
            cores: 2,
            kernel: "6.18".into(),
            virtual_machine: true,
            ..Host::default()
        };
        assert_eq!(Calibration::margins(Some(&found), &host, "keepalive"), (found.scenario["keepalive"].margin, None));
        let (margins, remark) = Calibration::margins(Some(&found), &Host::default(), "keepalive");
        assert_eq!((margins.latency, margins.cpu), (0.1, 0.06));
        assert!(remark.is_some_and(|remark| remark.contains("another machine")));
        assert_eq!(Calibration::margins(None, &host, "keepalive").0.p99, 0.3);
        assert_eq!(Calibration::margins(Some(&found), &host, "many").0.p99, 0.3);
    }
}
