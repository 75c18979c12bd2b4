//! `--header` and `--cache-control`: fields of the replies to some paths; and those of `[[location]]`.

use ucaffeine::site::headers::{Rule, Rules};

use super::problem::Problem;
use super::sources::{Given, Layers};
use super::tables::LocationTable;

/// The rules of a site, in the order in which they were said; what a flag or a variable says stands behind what the file says, so
/// that it holds.
pub(crate) fn rules(layers: &Layers, tables: &[LocationTable], problems: &mut Vec<Problem>) -> Rules {
    let mut rules = Rules::default();
    let kinds: [(&str, Whole, Part); 2] =
        [("header", Rule::header, Rule::header_at), ("cache-control", Rule::cache_control, Rule::cache_control_at)];
    for (name, whole, part) in kinds {
        let said = |given: &Given| rule(given, whole);
        let of_tables = tables.iter().flat_map(|table| {
            let pattern = table.pattern.text.to_string_lossy();
            table.layer.all(name).iter().map(move |given| rule(given, |text| part(&pattern, text)))
        });
        let of_site = layers.all(name).iter().map(said);
        let in_order: Vec<_> = match layers.is_overruled(name) {
            true => of_tables.chain(of_site).collect(),
            false => of_site.chain(of_tables).collect(),
        };
        for rule in in_order {
            match rule {
                Ok(rule) => rules.0.push(rule),
                Err(problem) => problems.push(problem),
            }
        }
    }
    rules
}

type Whole = fn(&str) -> Result<Rule, String>;
type Part = fn(&str, &str) -> Result<Rule, String>;

fn rule(given: &Given, read: impl Fn(&str) -> Result<Rule, String>) -> Result<Rule, Problem> {
    read(given.str()?).map_err(|what| given.unreadable(what))
}
