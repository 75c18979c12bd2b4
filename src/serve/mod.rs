//! The glue: moves the bytes that `site` decided on.

pub mod options;
