//! Judgements: whether a run may be believed, and whether it kept a promise.

mod slo;
mod validity;

pub use slo::{Outcome, Slo, SloResult, Term, TermResult};
pub use validity::{Reason, Validity, Verdict, judge, judge_with};
