//! The runtime. Knows nothing of HTTP.

pub mod sys;
