//! Every bound of the protocol, each with its unit last. `config` gives each one a flag, a key and a variable of the same name.

use super::Millis;

/// The bounds that a connection is held to, and what a client gets for crossing each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The request target; 414 beyond.
    pub target_bytes_max: usize,
    /// One field line, name and value; 431 beyond.
    pub field_bytes_max: usize,
    /// Field lines in a head; 431 beyond. At most [`FIELDS_MAX_CEILING`].
    pub fields_max: usize,
    /// The whole head, from the method to the blank line; 431 beyond.
    pub head_bytes_max: usize,
    /// The trailer section of a chunked body; 431 beyond.
    pub trailer_bytes_max: usize,
    /// All chunk extensions of one body together; 400 beyond.
    pub chunk_ext_bytes_max: usize,
    /// From the first byte of a head to its last; 408 beyond.
    pub head_ms_max: Millis,
    /// Between two requests on a connection; closed silently beyond.
    pub idle_ms_max: Millis,
    /// A body or a reply that makes no progress; closed (408 for a body when nothing was answered) beyond.
    pub stall_ms_max: Millis,
    /// The slowest healthy transfer, averaged over `stall_ms_max`.
    pub progress_bytes_per_s_min: u64,
    /// A body that is read only to keep the connection usable (an early error); more than this closes it.
    pub drain_bytes_max: u64,
}

/// The most field lines that any configuration may allow: the parser's table lives on the stack.
pub const FIELDS_MAX_CEILING: usize = 256;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            target_bytes_max: 8_000,
            field_bytes_max: 16 << 10,
            fields_max: 100,
            head_bytes_max: 64 << 10,
            trailer_bytes_max: 8 << 10,
            chunk_ext_bytes_max: 8 << 10,
            head_ms_max: 10_000,
            idle_ms_max: 60_000,
            stall_ms_max: 30_000,
            progress_bytes_per_s_min: 500,
            drain_bytes_max: 64 << 10,
        }
    }
}
