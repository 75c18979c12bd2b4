//! `--header` and `--cache-control`: fields of the replies to some paths.

use ucaffeine::site::headers::{Rule, Rules};

use super::problem::Problem;
use super::sources::{Given, Layers};

/// The rules of the site, in the order in which they were said.
pub(crate) fn rules(layers: &Layers, problems: &mut Vec<Problem>) -> Rules {
    let mut rules = Rules::default();
    for (name, read) in [("header", Rule::header as fn(&str) -> _), ("cache-control", Rule::cache_control)] {
        for given in layers.all(name) {
            match rule(given, read) {
                Ok(rule) => rules.0.push(rule),
                Err(problem) => problems.push(problem),
            }
        }
    }
    rules
}

fn rule(given: &Given, read: fn(&str) -> Result<Rule, String>) -> Result<Rule, Problem> {
    read(given.str()?).map_err(|what| given.unreadable(what))
}
