//! Policy: a request and the facts about what it names become a reply. Pure: no I/O, no clock, no descriptors.
#![forbid(unsafe_code)]
