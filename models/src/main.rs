//! The comparison models.
fn main() {}
