//! `loadgen bench`: servers side by side. What is measured is a table ([`cell`]), in which order is a value ([`plan`]), and
//! what came of it is made from files alone ([`report`]), so that it can be made again.

pub mod cell;
pub mod command;
pub mod measure;
pub mod plan;
mod progress;
pub mod report;
pub mod results;
pub mod server;
pub mod settings;
pub mod site;
pub mod stats;
pub mod store;
pub mod subject;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use self::cell::CELLS;
use self::command::Asked;
use self::measure::Bench;
use self::plan::{Lengths, Step};
use self::progress::Progress;
use self::results::Results;
use self::server::{Interrupt, adopt_orphans, allowed_cpus, pin_this_thread};
use self::settings::{Entrant, SCHEMA, Settings};
use self::site::Workshop;
use self::store::Store;
use self::subject::{Fill, Subject};
use crate::record::Host;

/// What ends it without results.
#[derive(Debug)]
pub enum Stop {
    /// What was asked for makes no sense.
    Usage(String),
    /// Something failed.
    Failed(String),
}

/// A measurement takes so long, unless it is said.
const SECONDS_DEFAULT: f64 = 5.0;

/// Descriptors for 10,000 connections, and some.
const DESCRIPTORS_MIN: u64 = 10_100;

/// Does what was asked for, and says on standard output where the results are.
///
/// # Errors
/// [`Stop`].
pub fn run(asked: &Asked) -> Result<(), Stop> {
    if let Some(folder) = &asked.render {
        let (store, settings) = Store::open(folder).map_err(Stop::Failed)?;
        return render(&store, &settings);
    }
    let (store, mut settings) = match &asked.resume {
        Some(folder) => resumed(folder)?,
        None => {
            let settings = settings(asked).map_err(Stop::Usage)?;
            if asked.list {
                println!("{}", listing(&settings));
                return Ok(());
            }
            let store = Store::create(&folder(asked, &settings)).map_err(Stop::Usage)?;
            store.keep_settings(&settings).map_err(Stop::Failed)?;
            (store, settings)
        }
    };
    measure_all(&store, &mut settings)?;
    render(&store, &settings)
}

fn render(store: &Store, settings: &Settings) -> Result<(), Stop> {
    let results = Results::read(store, settings).map_err(Stop::Failed)?;
    report::write(&results, store).map_err(Stop::Failed)?;
    println!("{}", store.folder().join("README.md").display());
    Ok(())
}

/// Both parts; what is there is left as it is.
fn measure_all(store: &Store, settings: &mut Settings) -> Result<(), Stop> {
    let interrupt = Interrupt::listen().map_err(Stop::Failed)?;
    adopt_orphans().map_err(Stop::Failed)?;
    // What this thread and the generator's do besides shall not be on the servers' CPUs.
    pin_this_thread(&settings.generator_cpus).map_err(Stop::Usage)?;
    let limit = ucaffeine::rt::net::raise_descriptor_limit();
    if limit < DESCRIPTORS_MIN {
        eprintln!("loadgen: `ulimit -Hn` is {limit}: 10,000 connections need {DESCRIPTORS_MIN}, and will fail");
    }
    if settings.server_cpus == settings.generator_cpus {
        eprintln!("loadgen: servers and generator share CPU {:?}: they slow each other down", settings.server_cpus);
    }
    let workshop = Workshop::make().map_err(Stop::Failed)?;
    let bin = own_folder();
    let mut progress = Progress::new(settings);
    let first = settings.first_part();
    steps(&first, settings, store, &workshop, &bin, &interrupt, &mut progress)?;
    if settings.rates.is_none() {
        let results = Results::read(store, settings).map_err(Stop::Failed)?;
        settings.rates = Some(results.rates());
        store.keep_settings(settings).map_err(Stop::Failed)?;
    }
    let second = settings.second_part();
    steps(&second, settings, store, &workshop, &bin, &interrupt, &mut progress)?;
    progress.end();
    Ok(())
}

fn steps(
    steps: &[Step],
    settings: &Settings,
    store: &Store,
    workshop: &Workshop,
    bin: &Path,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<(), Stop> {
    let bench = Bench { settings, workshop, bin, interrupt };
    for step in steps {
        let name = &settings.servers[step.subject].subject.name;
        if store.has(step.key, name, step.round) {
            progress.is_there(*step);
            continue;
        }
        progress.begins(*step, name);
        let Some(measured) = bench.measure(*step) else {
            progress.end();
            let folder = store.folder().display();
            return Err(Stop::Failed(format!("interrupted; what was measured is whole: go on with --resume {folder}")));
        };
        store.keep(&measured).map_err(Stop::Failed)?;
        progress.ended(*step, name, &measured.run);
    }
    Ok(())
}

/// What was asked for, with what is known of this machine.
fn settings(asked: &Asked) -> Result<Settings, String> {
    let mut all = subject::known();
    for path in &asked.add {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        all.extend(subject::parse(&text).map_err(|why| format!("{}: {why}", path.display()))?);
    }
    let subjects = subject::chosen(all, &asked.servers)?;
    let cells = plan::cells_named(&asked.cells)?;
    let (server_cpus, generator_cpus) = cpus(asked)?;
    let rounds = asked.rounds();
    let steps = [plan::capacities(&cells, &subjects, rounds), plan::paced(&cells, &subjects, rounds)].concat();
    let lengths = match asked.time() {
        None => Lengths::of(asked.seconds.unwrap_or(SECONDS_DEFAULT)),
        Some(time) => Lengths::within(time, &steps).map_err(|needed| {
            let minutes = (needed.as_secs_f64() / 60.0).ceil();
            format!("it takes {minutes} minutes at least: fewer --servers, --cells or --rounds, or more minutes")
        })?,
    };
    let bin = own_folder();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Ok(Settings {
        schema: SCHEMA.to_owned(),
        question: asked.question.clone(),
        command_line: words(asked),
        host: Host::read(),
        host_name: read("/proc/sys/kernel/hostname"),
        congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
        date: date(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
        rounds,
        seconds: lengths.seconds,
        warmup: lengths.warmup,
        cells: cells.into_iter().map(|cell| CELLS[cell].name.to_owned()).collect(),
        servers: subjects.into_iter().map(|subject| entrant(subject, &bin, server_cpus.len())).collect(),
        server_cpus,
        generator_cpus,
        seed: asked.seed,
        rates: None,
    })
}

/// Without the folders of this program and of the results, which mean nothing elsewhere.
fn words(asked: &Asked) -> Vec<String> {
    let mut words = asked.words.clone();
    words.retain(|word| !word.starts_with("--out="));
    if let Some(at) = words.iter().position(|word| word == "--out") {
        words.drain(at..(at + 2).min(words.len()));
    }
    if let Some(first) = words.first_mut() {
        *first = String::from("loadgen");
    }
    words
}

/// The settings of what is there, if they still hold.
fn resumed(folder: &Path) -> Result<(Store, Settings), Stop> {
    let (store, settings) = Store::open(folder).map_err(Stop::Failed)?;
    let bin = own_folder();
    let cores = settings.server_cpus.len();
    let now = Settings {
        host: Host::read(),
        host_name: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        servers: settings.subjects().into_iter().map(|subject| entrant(subject, &bin, cores)).collect(),
        ..settings.clone()
    };
    let differences = settings.differences(&now);
    if !differences.is_empty() {
        return Err(Stop::Usage(format!("cannot go on with {}: {}", folder.display(), differences.join("; "))));
    }
    Ok((store, settings))
}

/// A server with what its program is today.
fn entrant(subject: Subject, bin: &Path, cores: usize) -> Entrant {
    let fill = Fill {
        port: 0,
        site: String::new(),
        config: String::new(),
        folder: String::new(),
        cores,
        bin: bin.display().to_string(),
    };
    let program = subject.argv(&fill).ok().and_then(|argv| Some(find_program(argv.first()?)));
    let program_crc32 = program.flatten().and_then(|path| Some(crc32fast::hash(&std::fs::read(path).ok()?)));
    let version_found = subject.version.as_ref().and_then(|version| first_line(&fill.apply(version)));
    Entrant { subject, version_found, program_crc32 }
}

fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The first line that a command prints, on either output.
fn first_line(command: &str) -> Option<String> {
    let argv = subject::words(command).ok()?;
    let output = Command::new(argv.first()?).args(&argv[1..]).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn cpus(asked: &Asked) -> Result<(Vec<usize>, Vec<usize>), String> {
    let allowed = allowed_cpus();
    let all = asked.server_cpus.iter().chain(&asked.generator_cpus).flatten();
    if let Some(cpu) = all.into_iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!("there is no CPU {cpu} for this process; there are {allowed:?}"));
    }
    let first = *allowed.first().ok_or("no CPU is known")?;
    let second = allowed.get(1).copied().unwrap_or(first);
    let or = |asked: &Option<Vec<usize>>, default| asked.clone().unwrap_or_else(|| vec![default]);
    Ok((or(&asked.server_cpus, second), or(&asked.generator_cpus, first)))
}

fn folder(asked: &Asked, settings: &Settings) -> PathBuf {
    let plain = |text: &str| text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>();
    let name = format!("{}-{}-{}", settings.date, plain(&settings.host_name), plain(&settings.question));
    asked.out.clone().unwrap_or_else(|| Path::new("results").join(name))
}

/// Where this program lies; the models and the server are built beside it.
fn own_folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new(".")).to_owned()
}

/// What would be measured.
fn listing(settings: &Settings) -> String {
    let steps = [settings.first_part(), settings.second_part()].concat();
    let mut by_cell: HashMap<String, usize> = HashMap::new();
    for step in &steps {
        *by_cell.entry(step.key.load().name.to_owned()).or_default() += 1;
    }
    let minutes = settings.lengths().all(&steps).as_secs_f64() / 60.0;
    let mut lines = vec![
        format!("{} measurements of {} s, about {minutes:.0} minutes", steps.len(), settings.seconds),
        format!("servers on CPU {:?}, generator on CPU {:?}", settings.server_cpus, settings.generator_cpus),
        String::new(),
    ];
    let cells = settings.cell_places().into_iter().map(|cell| &CELLS[cell]);
    lines.extend(cells.map(|cell| {
        format!("{:14} {:5} times   {}", cell.name, by_cell.get(cell.name).copied().unwrap_or(0), cell.title)
    }));
    lines.push(String::new());
    lines.extend(settings.servers.iter().map(|entrant| {
        let version = match (&entrant.program_crc32, &entrant.version_found) {
            (None, _) => "NOT FOUND",
            (_, Some(version)) => version.as_str(),
            (_, None) => "",
        };
        format!("{:18} {version}", entrant.subject.name)
    }));
    lines.join("\n")
}

/// The day of a moment, in UTC: the civil calendar from days since 1970, by eras of 400 years.
fn date(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is month 0, so that a leap day is the last of its year.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = (if month < 10 { month + 3 } else { month - 9 }, year_of_era + era * 400);
    format!("{:04}-{month:02}-{day:02}", year + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_795_219_200, "2026-11-21"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }

    #[test]
    fn another_machine_or_program_is_a_difference() {
        let mine = results::tests::settings(&["nginx", "ucaffeine"], &["close"], 5);
        assert_eq!(mine.differences(&mine), Vec::<String>::new());
        let mut other = mine.clone();
        other.host.kernel = String::from("7.0");
        other.servers[1].program_crc32 = Some(8);
        let found = mine.differences(&other).join("; ");
        assert!(found.contains("kernel") && found.contains("ucaffeine is another program"), "{found}");
    }

    #[test]
    fn the_listing_says_how_long_it_takes() {
        let settings = results::tests::settings(&["nginx", "ucaffeine"], &["close", "file-10m"], 5);
        let text = listing(&settings);
        // close: a capacity and three rates; file-10m: a capacity.
        assert!(text.starts_with("50 measurements of 1 s, about "), "{text}");
        assert!(text.contains("ucaffeine 1.0") && text.contains("10 MiB"), "{text}");
    }
}
