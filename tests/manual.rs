//! The manual pages, as whoever reads them sees them: whole, without a warning, and with every flag of the help. That they are what
//! the command line says is held where that is defined (`src/manual.rs`, `loadgen/src/manual.rs`).

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Launch, run};

/// Each page, and the sections that it must have.
const PAGES: [(&str, &[&str]); 3] = [
    (
        "ucaffeine.1",
        &[
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "SUBCOMMANDS",
            "INSTANCES",
            "SIGNALS",
            "EXIT STATUS",
            "ENVIRONMENT",
            "FILES",
            "EXAMPLES",
            "SEE ALSO",
        ],
    ),
    ("ucaffeine.toml.5", &["NAME", "SYNOPSIS", "DESCRIPTION", "SETTINGS", "EXAMPLE", "SEE ALSO"]),
    (
        "loadgen.1",
        &["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SUBCOMMANDS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"],
    ),
];

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// As it is printed, without bold and underlines.
fn printed(name: &str) -> Option<String> {
    if !support::skip_or_fail("groff") {
        return None;
    }
    let output = run(Command::new("groff").args(["-man", "-Tutf8", "-ww", "-P-cbou", "-rLL=100n"]).arg(page(name)));
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && warnings.is_empty(), "{name}: {warnings}");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn every_page_is_printed_without_a_warning_and_has_its_sections_in_order() {
    for (name, sections) in PAGES {
        let Some(text) = printed(name) else { return };
        let found: Vec<&str> = text.lines().filter(|line| sections.contains(line)).collect();
        assert_eq!(found, sections, "{name}");
        assert!(!text.contains("\\f"), "{name} has mark-up that was not taken for such");
    }
}

#[test]
fn every_flag_of_the_help_is_in_the_page_as_it_is_typed() {
    let Some(text) = printed("ucaffeine.1") else { return };
    let help = run(Command::new(Launch::binary()).arg("--help"));
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let flags: Vec<&str> = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")))
        .collect();
    assert!(flags.len() > 60, "{flags:?}");
    for flag in flags {
        assert!(text.contains(flag), "{flag}");
    }
}

#[test]
fn every_key_of_the_file_is_in_its_page() {
    let Some(text) = printed("ucaffeine.toml.5") else { return };
    let explained =
        run(Command::new(Launch::binary()).args(["--explain", "--path", "."]).current_dir(env!("CARGO_MANIFEST_DIR")));
    let explained = String::from_utf8(explained.stdout).expect("UTF-8");
    let settings = explained.split("Settings (").nth(1).expect("the settings are explained");
    let names = settings.lines().filter(|line| line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    let keys: Vec<String> = names.map(|name| name.replace('-', "_")).collect();
    assert!(keys.len() > 60, "{keys:?}");
    for key in keys {
        assert!(text.contains(&format!("{key} = ")), "{key}");
    }
}

/// A page that nobody installs is none.
#[test]
fn every_page_is_one_of_these() {
    let pages = fs::read_dir(page("")).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages = pages.filter(|path| {
        path.extension().is_some_and(|ext| ext.len() == 1 && ext.to_string_lossy().parse::<u8>().is_ok())
    });
    let mut names: Vec<String> =
        pages.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    let mut known = PAGES.map(|(name, _)| name.to_owned());
    known.sort();
    assert_eq!(names, known);
}
