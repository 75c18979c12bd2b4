//! What the command line asks of saved runs, and the files that a run is saved to. Errors are one line: what failed, on
//! what, and the likely cause.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::style::Style;
use super::{csv, diff as differences, hgrm, hlog, json, merge as merging, side_by_side, summary, svg};
use crate::record::Run;

/// Stands for standard input or output.
const STANDARD: &str = "-";

/// Where a run is saved; `-` is standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// `--json`: everything.
    pub json: Option<PathBuf>,
    /// `--hgrm`: response times by percentile, as text.
    pub hgrm: Option<PathBuf>,
    /// `--hlog`: response times of the intervals, as an HdrHistogram log.
    pub hlog: Option<PathBuf>,
    /// `--csv`: the intervals.
    pub csv: Option<PathBuf>,
    /// `--svg`: a folder for the charts; it is made.
    pub svg: Option<PathBuf>,
}

impl Outputs {
    /// True when standard output belongs to one of the files, so that no summary may be printed there.
    #[must_use]
    pub fn take_stdout(&self) -> bool {
        self.files().iter().flatten().any(|path| *path == Path::new(STANDARD))
    }

    /// Refuses what cannot be, before a run is made for nothing.
    ///
    /// # Errors
    /// When two of them want standard output, or the charts do.
    pub fn check(&self) -> Result<(), String> {
        if self.svg.as_deref() == Some(Path::new(STANDARD)) {
            return Err(String::from("--svg takes a folder, and cannot be written to standard output"));
        }
        match self.files().iter().flatten().filter(|path| **path == Path::new(STANDARD)).count() {
            0 | 1 => Ok(()),
            _ => Err(String::from("only one of --json, --hgrm, --hlog and --csv can be written to standard output")),
        }
    }

    fn files(&self) -> [Option<&Path>; 4] {
        [self.json.as_deref(), self.hgrm.as_deref(), self.hlog.as_deref(), self.csv.as_deref()]
    }
}

/// Saves a run to all of them.
///
/// # Errors
/// When one cannot be written; those before it are.
pub fn save(run: &Run, outputs: &Outputs) -> Result<(), String> {
    if let Some(path) = &outputs.json {
        write_file(path, |out| json::write(run, out))?;
    }
    if let Some(path) = &outputs.hgrm {
        write_file(path, |out| out.write_all(hgrm::write(&run.latency.response).as_bytes()))?;
    }
    if let Some(path) = &outputs.hlog {
        write_file(path, |out| hlog::write(run, out))?;
    }
    if let Some(path) = &outputs.csv {
        write_file(path, |out| out.write_all(csv::write(run).as_bytes()))?;
    }
    if let Some(folder) = &outputs.svg {
        fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
        for (name, text) in svg::files(run) {
            write_file(&folder.join(name), |out| out.write_all(text.as_bytes()))?;
        }
    }
    Ok(())
}

/// `loadgen show FILE...`: the summary of one run, or several runs side by side; and the files that are asked for, of one.
///
/// # Errors
/// When a file is no run, or one of `outputs` cannot be written.
pub fn show(files: &[PathBuf], outputs: &Outputs, style: &Style) -> Result<String, String> {
    let runs = read_all(files)?;
    if let [(_, run)] = runs.as_slice() {
        save(run, outputs)?;
        return Ok(if outputs.take_stdout() { String::new() } else { summary(run, style) });
    }
    if *outputs != Outputs::default() {
        return Err(String::from("files are written from one run; several are shown side by side only"));
    }
    Ok(side_by_side(&runs, style))
}

/// `loadgen diff A B [--svg FILE]`: what moved.
///
/// # Errors
/// When a file is no run, or the chart cannot be written.
pub fn diff(a: &Path, b: &Path, chart: Option<&Path>, style: &Style) -> Result<String, String> {
    let (one, other) = (read_run(a)?, read_run(b)?);
    let names = (a.to_string_lossy(), b.to_string_lossy());
    let names = (names.0.as_ref(), names.1.as_ref());
    if let Some(path) = chart {
        let text = differences::chart(names, &one, &other);
        write_file(path, |out| out.write_all(text.as_bytes()))?;
        if path == Path::new(STANDARD) {
            return Ok(String::new());
        }
    }
    Ok(differences::diff(names, &one, &other, style))
}

/// `loadgen merge FILE... -o OUT`: several runs as one. The text is the summary of it, unless OUT is standard output.
///
/// # Errors
/// When a file is no run, the runs cannot be one, or OUT cannot be written.
pub fn merge(files: &[PathBuf], out: &Path, style: &Style) -> Result<String, String> {
    let runs: Vec<Run> = read_all(files)?.into_iter().map(|(_, run)| run).collect();
    let merged = merging::merge(&runs).map_err(|why| format!("cannot merge: {why}"))?;
    write_file(out, |out| json::write(&merged, out))?;
    Ok(if out == Path::new(STANDARD) { String::new() } else { summary(&merged, style) })
}

/// Reads one run; `-` is standard input.
///
/// # Errors
/// When it cannot be read, or is no run.
pub fn read_run(path: &Path) -> Result<Run, String> {
    let run = if path == Path::new(STANDARD) {
        json::read(io::stdin().lock())
    } else {
        let file = File::open(path).map_err(|error| failed("read", path, &error))?;
        json::read(BufReader::new(file))
    };
    run.map_err(|why| format!("cannot read {}: {why}", path.display()))
}

fn read_all(files: &[PathBuf]) -> Result<Vec<(String, Run)>, String> {
    if files.iter().filter(|path| *path == Path::new(STANDARD)).count() > 1 {
        return Err(String::from("standard input can be read once only"));
    }
    files.iter().map(|path| Ok((path.to_string_lossy().into_owned(), read_run(path)?))).collect()
}

fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), String> {
    let written = if path == Path::new(STANDARD) {
        let mut out = BufWriter::new(io::stdout().lock());
        write(&mut out).and_then(|()| out.flush())
    } else {
        File::create(path).and_then(|file| {
            let mut out = BufWriter::new(file);
            write(&mut out).and_then(|()| out.flush())
        })
    };
    match written {
        // Who reads our output has seen enough: that is no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe && path == Path::new(STANDARD) => Ok(()),
        other => other.map_err(|error| failed("write", path, &error)),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> String {
    let cause = match error.kind() {
        io::ErrorKind::NotFound if what == "write" => "there is no such folder".to_owned(),
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot {what} {}: {cause}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn style() -> Style {
        Style::new(Some(100), false)
    }

    #[test]
    fn a_saved_run_is_shown_compared_and_merged_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let (a, b) = (samples::closed(), samples::open());
        let all = Outputs {
            json: Some(at("a.json")),
            hgrm: Some(at("a.hgrm")),
            hlog: Some(at("a.hlog")),
            csv: Some(at("a.csv")),
            svg: Some(at("charts")),
        };
        save(&a, &all).expect("saved");
        save(&b, &Outputs { json: Some(at("b.json")), ..Outputs::default() }).expect("saved");
        for name in ["a.hgrm", "a.hlog", "a.csv", "charts/spectrum.svg", "charts/rate-over-time.svg"] {
            assert!(fs::metadata(at(name)).expect(name).len() > 100, "{name}");
        }
        let none = Outputs::default();
        assert_eq!(show(&[at("a.json")], &none, &style()).expect("shown"), summary(&a, &style()));
        let both = show(&[at("a.json"), at("b.json")], &none, &style()).expect("shown");
        assert!(both.contains("a.json") && both.contains("BREACHED"), "{both}");
        let text = diff(&at("a.json"), &at("b.json"), Some(&at("shift.svg")), &style()).expect("compared");
        assert!(text.starts_with("B is slower from p95"), "{text}");
        assert!(fs::read_to_string(at("shift.svg")).expect("a chart").contains(">x100<"));
        let mut other = a.clone();
        other.facts.seed = 43;
        save(&other, &Outputs { json: Some(at("c.json")), ..Outputs::default() }).expect("saved");
        let text = merge(&[at("a.json"), at("c.json")], &at("sum.json"), &style()).expect("merged");
        assert!(text.contains("2 runs merged"), "{text}");
        assert_eq!(read_run(&at("sum.json")).expect("a run").measured.responses, 400_000);
    }

    #[test]
    fn what_fails_is_said_in_one_line_with_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("text.json"), "hello").expect("written");
        let errors = [
            (read_run(&at("none.json")).map(|_| ()), "there is no such file"),
            (read_run(&at("text.json")).map(|_| ()), "not a run that `loadgen --json` wrote"),
            (read_run(folder.path()).map(|_| ()), "directory"),
            (
                save(&samples::closed(), &Outputs { json: Some(at("no/a.json")), ..Outputs::default() }),
                "there is no such folder",
            ),
            (save(&samples::closed(), &Outputs { svg: Some(at("text.json")), ..Outputs::default() }), "cannot make"),
        ];
        for (error, why) in errors {
            let error = error.expect_err(why);
            assert!(error.contains(why) && error.starts_with("cannot ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn standard_output_has_one_owner() {
        let dash = || Some(PathBuf::from("-"));
        let json = Outputs { json: dash(), ..Outputs::default() };
        assert!(json.take_stdout() && json.check().is_ok());
        assert!(!Outputs { json: Some(PathBuf::from("a")), ..Outputs::default() }.take_stdout());
        assert!(Outputs { csv: dash(), ..json }.check().is_err());
        assert!(Outputs { svg: dash(), ..Outputs::default() }.check().is_err());
    }
}
