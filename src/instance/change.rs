//! Changing an instance that runs: another configuration, another process.

use std::time::Duration;

use serde_json::{Value, json};

use super::protocol::Client;
use super::registry::{Entry, look};
use super::{EXIT_FAILED, Failed, Folders, Name};

/// The instance bounds what it does itself, by `--upgrade-ms-max` for example; this is for one that hangs.
const ANSWER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Has it read its configuration again. Returns what there is to say.
///
/// # Errors
/// It does not run; or, with `refused` as the exit code, what is wrong with the configuration, a line for each mistake.
pub(crate) fn reload(folders: &Folders, name: &Name, refused: u8) -> Result<String, Failed> {
    let answer = ask(folders, name, "reload")?;
    let texts = |key: &str| -> Vec<String> {
        let all = answer[key].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if answer["problems"].is_array() {
        let lines = texts("problems").into_iter().map(|problem| format!("ucaffeine: {problem}\n"));
        let why = lines.chain([format!("ucaffeine: {name} was not reloaded, and is as it was\n")]).collect();
        return Err(Failed { code: refused, why });
    }
    let needs_restart = texts("needs_restart");
    Ok(match needs_restart.is_empty() {
        true => format!("{name} has reloaded its configuration\n"),
        false => format!(
            "{name} has reloaded its configuration\nneeds a restart (--upgrade): {}\n",
            needs_restart.join(", ")
        ),
    })
}

/// Has a new process take its place. Returns what there is to say.
///
/// # Errors
/// It does not run, or why it goes on as it is.
pub(crate) fn upgrade(folders: &Folders, name: &Name) -> Result<String, Failed> {
    let answer = ask(folders, name, "upgrade")?;
    Ok(format!("{name} is served by process {} now; the one before it drains\n", answer["pid"]))
}

fn ask(folders: &Folders, name: &Name, verb: &str) -> Result<Value, Failed> {
    match look(folders, name).map_err(|error| Failed::new(format!("cannot look for {name}: {error}")))? {
        Entry::Nothing => Err(Failed::new(format!("no instance {name} is running"))),
        Entry::Running(_) => Client::connect(&folders.run(name))
            .and_then(|mut client| client.ask(verb, json!({}), ANSWER_MAX))
            .map_err(|failure| Failed { code: EXIT_FAILED, why: format!("{name}: {failure}") }),
    }
}
