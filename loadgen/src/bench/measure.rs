//! One measurement: a fresh server, the generator against it, and what came of it, also where that is a failure.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cell::{Drive, Key};
use super::plan::Step;
use super::server::{Interrupt, Server, free_port};
use super::settings::Settings;
use super::site::Workshop;
use super::subject::{Fill, Subject};
use crate::cli;
use crate::plan::Plan;
use crate::prepare;
use crate::record::{Host, Run, RunFacts};
use crate::session::{self, About};
use crate::target::Url;
use crate::traffic::{Expect, Request, Traffic};
use crate::verdict::{Reason, Validity, judge};

/// How often an interruption is looked for.
const POLL: Duration = Duration::from_millis(50);
/// A run that takes so much longer than planned is given up: answers in flight at its end are waited for up to 10 s.
const LATE_MAX: Duration = Duration::from_secs(20);
/// A run that was given up is waited for, once its server is gone.
const LEFT_BEHIND_MAX: Duration = Duration::from_secs(60);
/// A ramp is cut into so many pieces, each with a rate of its own.
pub const RAMP_PIECES: u32 = 12;
/// So long before a request is due the generator looks at the clock rather than sleep. Longer was no better: with 1 ms the p99 of its
/// lag was 16 us, with this 2 (11,500 a second, evenly spaced, single runs).
const SPIN: &str = "100us";

/// What a cell's file says beside the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The cell.
    pub cell: Key,
    /// The server.
    pub server: String,
    /// The round, from 0.
    pub round: u32,
    /// How it was driven otherwise than the others, and why.
    pub note: Option<String>,
    /// The end of what the server printed.
    pub said: String,
    /// What was offered at the beginning and at the end, in requests a second.
    pub offered: Option<(f64, f64)>,
}

/// A cell that is whole: to be written down.
#[derive(Debug)]
pub struct Measured {
    /// What it is.
    pub facts: Facts,
    /// What was measured; without a sample, and invalid, where nothing could be.
    pub run: Run,
}

/// What all measurements of a comparison share.
pub struct Bench<'b> {
    /// What is measured.
    pub settings: &'b Settings,
    /// What is served.
    pub workshop: &'b Workshop,
    /// Where this program lies.
    pub bin: &'b Path,
    /// What ends it early.
    pub interrupt: &'b Interrupt,
}

impl Bench<'_> {
    /// Makes one measurement; `None` if it was interrupted. What fails is in the result.
    #[must_use]
    pub fn measure(&self, step: Step) -> Option<Measured> {
        let subject = &self.settings.servers[step.subject].subject;
        let rates = self.settings.rates.clone().unwrap_or_default();
        let offered = rates.offered(step.key, &subject.name);
        let mut facts = Facts {
            cell: step.key,
            server: subject.name.clone(),
            round: step.round,
            note: step.key.load().note(subject),
            said: String::new(),
            offered,
        };
        let run = match step.key.is_open() && offered.is_none() {
            true => Err(String::from("there is no rate to offer: no capacity was measured")),
            false => self.run(step, subject, &mut facts),
        };
        if self.interrupt.is_set() {
            return None;
        }
        let mut run = run.unwrap_or_else(|why| failed(&why));
        if facts.said.is_empty() && run.validity.is_invalid() {
            facts.said = run.validity.line();
        }
        self.without_paths(&mut facts.said);
        run.validity.reasons.iter_mut().for_each(|reason| self.without_paths(&mut reason.text));
        Some(Measured { facts, run })
    }

    fn run(&self, step: Step, subject: &Subject, facts: &mut Facts) -> Result<Run, String> {
        let what = step.key.load().what;
        if let (Some(why), true) = (&self.workshop.no_programs, what.path(subject.programs).contains("cgi-bin")) {
            return Err(why.clone());
        }
        let path = format!("{}{}", subject.prefix, what.path(subject.programs));
        let fill = self.fill(subject)?;
        let cpus = &self.settings.server_cpus;
        let server = Server::start(subject, &fill, cpus, (&path, what.bytes()), self.interrupt);
        // Between our looking for a free port and the server's using it, somebody else may have.
        let mut server = match server {
            Err(_) if subject.url.is_some() && !self.interrupt.is_set() => {
                let fill = self.fill(subject)?;
                Server::start(subject, &fill, cpus, (&path, what.bytes()), self.interrupt)?
            }
            other => other?,
        };
        let url = format!("{}{path}", server.url);
        let told = self.load(step, subject, &url, server.pid(), facts.offered)?;
        let run = self.wait(step, &told);
        let ended = server.ended();
        facts.said = server.end();
        if run.is_err() && !self.interrupt.is_set() {
            // Without a server it soon ends; until then it would disturb the next measurement.
            let _ = told.recv_timeout(LEFT_BEHIND_MAX);
        }
        let mut run = run?;
        run.validity = verdict(step.key, &run, ended);
        Ok(run)
    }

    /// Begins the run, on a thread that is left behind if we are interrupted: the process ends then.
    fn load(
        &self,
        step: Step,
        subject: &Subject,
        url: &str,
        pid: u32,
        offered: Option<(f64, f64)>,
    ) -> Result<Receiver<Result<Run, String>>, String> {
        let words = self.words(step, subject, url, pid, offered);
        let plan = Arc::new(plan(&words, url, step, self.settings.seed)?);
        let about = About { words, server_pid: Some(pid) };
        let (tell, told) = mpsc::channel();
        // Nobody listens any more once we were interrupted.
        let work = move || drop(tell.send(session::run(&plan, &about, drop).map_err(|failure| failure.to_string())));
        std::thread::Builder::new().name(String::from("run")).spawn(work).map_err(|error| error.to_string())?;
        Ok(told)
    }

    fn wait(&self, step: Step, told: &Receiver<Result<Run, String>>) -> Result<Run, String> {
        let lengths = self.settings.lengths();
        let planned = Duration::from_secs_f64(lengths.warmup_of(step.key) + lengths.seconds_of(step.key));
        let deadline = Instant::now() + planned + LATE_MAX;
        loop {
            match told.recv_timeout(POLL) {
                Ok(run) => return run,
                Err(RecvTimeoutError::Timeout) if self.interrupt.is_set() => return Err(String::from("interrupted")),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    let seconds = LATE_MAX.as_secs();
                    return Err(format!(
                        "connections or answers kept it waiting for {seconds} s more than it should take"
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(String::from("the run panicked")),
            }
        }
    }

    /// The command that does the same, against a server that is there.
    fn words(&self, step: Step, subject: &Subject, url: &str, pid: u32, offered: Option<(f64, f64)>) -> Vec<String> {
        let load = step.key.load();
        let lengths = self.settings.lengths();
        let seconds = lengths.seconds_of(step.key);
        let ms = |seconds: f64| format!("{}ms", (seconds * 1e3).round());
        let cpus: Vec<String> = self.settings.generator_cpus.iter().map(usize::to_string).collect();
        let mut words: Vec<String> =
            ["loadgen", url, "--pin", &cpus.join(","), "--verify", "len"].map(String::from).into();
        let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
        flag("--conns", load.connections_to(subject).to_string());
        flag("--threads", cpus.len().to_string());
        flag("--duration", ms(seconds));
        flag("--warmup", ms(lengths.warmup_of(step.key)));
        if load.pipeline > 1 {
            flag("--pipeline", load.pipeline.to_string());
        }
        if load.closes || load.closes_because(subject).is_some() {
            flag("--close-every", String::from("1"));
        }
        let pieces = if step.key.drive == Drive::Ramp { f64::from(RAMP_PIECES) } else { 1.0 };
        flag("--interval", ms((seconds / pieces).max(0.01)));
        match (step.key.drive, offered) {
            (Drive::Ramp, Some((from, to))) => flag("--ramp", format!("{from:.0}:{to:.0}")),
            (Drive::Paced(_), Some((rate, _))) => flag("--rate", format!("{rate:.1}")),
            _ => {}
        }
        if step.key.is_open() {
            // Users do not arrive evenly, and a ramp asks what that does. Where rates are equal, times are compared: a request
            // that waits for the generator to have sent another would count against the server (docs/bench.md).
            let arrival = if step.key.drive == Drive::Ramp { "poisson" } else { "constant" };
            flag("--arrival", String::from(arrival));
            flag("--spin", String::from(SPIN));
        }
        flag("--seed", (self.settings.seed + u64::from(step.round)).to_string());
        flag("--server-pid", pid.to_string());
        words
    }

    fn fill(&self, subject: &Subject) -> Result<Fill, String> {
        let folder = self.workshop.folder();
        Ok(Fill {
            port: if subject.url.is_some() { free_port()? } else { 0 },
            site: self.workshop.site().display().to_string(),
            config: folder.join(format!("{}.conf", subject.name)).display().to_string(),
            folder: folder.display().to_string(),
            cores: self.settings.server_cpus.len(),
            bin: self.bin.display().to_string(),
        })
    }

    /// Results are read on other machines, where our folders mean nothing.
    fn without_paths(&self, text: &mut String) {
        let (site, folder) = (self.workshop.site(), self.workshop.folder());
        for (path, name) in [(site.as_path(), "{site}"), (folder, "{folder}"), (self.bin, "{bin}")] {
            *text = text.replace(&*path.to_string_lossy(), name);
        }
    }
}

fn plan(words: &[String], url: &str, step: Step, seed: u64) -> Result<Plan, String> {
    let matches = cli::command("loadgen").try_get_matches_from(words).map_err(|error| error.to_string())?;
    let words: Vec<_> = words.iter().map(Into::into).collect();
    let asked = cli::asked(&words, &matches);
    let mut plan = prepare::plan(&asked, asked.seed.unwrap_or(seed))?;
    // What is right is known beforehand, and does not have to be taken from the first answer.
    let expect = Expect { status: Some(200), length: Some(step.key.load().what.bytes()), crc32: None };
    plan.traffic = Traffic::new(vec![Request::new("GET", &Url::parse(url)?, &[], &[], expect)])?;
    Ok(plan)
}

/// How far to believe it. A ramp goes beyond what the server can do, so what is not achieved speaks for nothing there.
fn verdict(key: Key, run: &Run, ended: Option<String>) -> Validity {
    let judged = judge(run, false, 0);
    let mut reasons: Vec<Reason> = match key.drive {
        Drive::Ramp => {
            judged.reasons.into_iter().filter(|_| run.measured.errors > 0 || run.measured.responses == 0).collect()
        }
        Drive::Capacity | Drive::Paced(_) => judged.reasons,
    };
    if let Some(status) = ended {
        reasons.push(Reason::invalid(format!("the server ended meanwhile ({status})")));
    }
    Validity::of(reasons)
}

/// What cannot be measured is a result, too.
fn failed(why: &str) -> Run {
    let mut run = Run::empty(RunFacts { host: Host::read(), ..RunFacts::default() });
    run.validity = Validity::of(vec![Reason::invalid(why.to_owned())]);
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::verdict::Verdict;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    #[test]
    fn a_ramp_may_end_in_more_than_can_be_done_but_not_in_errors() {
        let mut run = samples::closed();
        run.facts.generator.busiest_thread_share = 0.99;
        assert_eq!(verdict(key("close"), &run, None).verdict, Verdict::GeneratorLimited);
        assert_eq!(verdict(key("keepalive-64@ramp"), &run, None).verdict, Verdict::Valid);
        run.measured.errors = 1;
        assert_eq!(verdict(key("keepalive-64@ramp"), &run, None).verdict, Verdict::Invalid);
    }

    #[test]
    fn a_server_that_ended_meanwhile_invalidates_the_cell() {
        let validity = verdict(key("close"), &samples::closed(), Some(String::from("signal: 11")));
        assert!(validity.is_invalid() && validity.line().contains("signal: 11"), "{}", validity.line());
    }

    #[test]
    fn a_failure_is_a_run_that_says_why() {
        let run = failed("it is not there");
        assert_eq!((run.validity.line().as_str(), run.measured.responses), ("INVALID: it is not there", 0));
    }
}
