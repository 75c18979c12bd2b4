//! What may go wrong, how often, and the one source of chance.

/// What an enter costs at most, unless a test says otherwise.
const ENTER_NS_MAX: u64 = 3_000;

/// A small generator (splitmix64): the same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed);
        // Neighbouring seeds must not give neighbouring worlds.
        Rng(rng.next() ^ seed.rotate_left(32))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A count in `1..=most`.
    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        1 + self.below(most as u64) as usize
    }

    /// True `permille` times of 1,000.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The faults of one world. Those that end in `_permille` are chances of 1,000 each time it could happen.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A send takes fewer bytes than there is room for.
    pub(crate) short_sends_permille: u32,
    /// A receive gives, or a file's read gives, fewer bytes than there are.
    pub(crate) short_reads_permille: u32,
    /// The kernel ends a multishot with -ECANCELED though nobody asked.
    pub(crate) multishots_cancelled_permille: u32,
    /// A multishot's result comes without the MORE flag, as after an overflow of the completion queue.
    pub(crate) multishots_ended_permille: u32,
    /// An end of input comes with an empty buffer of the pool, as it does from a pipe.
    pub(crate) ends_with_buffer_permille: u32,
    /// A kernel before 6.17: a receive with a limit to its bytes is refused.
    pub(crate) refuses_recv_limits: bool,
    /// A completion comes up to `late_ns_max` later than it happened, after others that happened later.
    pub(crate) late_completions_permille: u32,
    /// A cancel is carried out up to `late_ns_max` after it was submitted. Entries of a ring have no order unless they
    /// are linked, so this is allowed, though today's kernels cancel at once. Never for an accept: a late one would
    /// overrun the table.
    pub(crate) late_cancels_permille: u32,
    /// A cancel says -EALREADY; the operation ends later, as cancelled or as done.
    pub(crate) cancels_already_permille: u32,
    /// A connection is reset by the network at some time.
    pub(crate) resets_permille: u32,
    /// A client that is reset loses what it has not read (RFC 9112, section 9.6), as some systems do it.
    pub(crate) resets_discard_unread: bool,
    /// A name is not in the kernel's cache (-EAGAIN with RESOLVE_CACHED).
    pub(crate) cold_names_permille: u32,
    /// How late "late" may be.
    pub(crate) late_ns_max: u64,
    /// The longest way of a segment.
    pub(crate) latency_ns_max: u64,
    /// The largest window of either side of a connection; each connection draws its own.
    pub(crate) window_bytes_max: usize,
    /// Entries that one `enter` submits; the others wait in line.
    pub(crate) sq_entries: usize,
    /// Virtual time that one enter costs at most, less 1 ns.
    pub(crate) enter_ns_max: u64,
}

impl Faults {
    /// A kernel and a network without a fault, though not without latency.
    pub(crate) fn none() -> Faults {
        Faults {
            short_sends_permille: 0,
            short_reads_permille: 0,
            multishots_cancelled_permille: 0,
            multishots_ended_permille: 0,
            ends_with_buffer_permille: 0,
            refuses_recv_limits: false,
            late_completions_permille: 0,
            late_cancels_permille: 0,
            cancels_already_permille: 0,
            resets_permille: 0,
            resets_discard_unread: false,
            cold_names_permille: 0,
            late_ns_max: 1,
            latency_ns_max: 50_000,
            window_bytes_max: 64 << 10,
            sq_entries: 1024,
            enter_ns_max: ENTER_NS_MAX,
        }
    }

    /// Each seed draws which faults it has at all: a world with all of them never gets far enough to meet two of them
    /// in a row ("swarm testing").
    pub(crate) fn of_seed(seed: u64) -> Faults {
        let mut rng = Rng::new(!seed);
        let mut often = |choices: [u32; 3]| if rng.chance(500) { rng.one_of(&choices) } else { 0 };
        Faults {
            short_sends_permille: often([20, 200, 700]),
            short_reads_permille: often([20, 200, 700]),
            multishots_cancelled_permille: often([5, 30, 200]),
            multishots_ended_permille: often([5, 30, 200]),
            ends_with_buffer_permille: often([100, 500, 1000]),
            late_completions_permille: often([10, 100, 400]),
            late_cancels_permille: often([100, 300, 800]),
            cancels_already_permille: often([50, 200, 500]),
            resets_permille: often([20, 60, 200]),
            cold_names_permille: often([100, 300, 900]),
            resets_discard_unread: rng.chance(500),
            refuses_recv_limits: rng.chance(300),
            late_ns_max: rng.one_of(&[20_000, 300_000, 5_000_000]),
            latency_ns_max: rng.one_of(&[1_000, 50_000, 2_000_000]),
            window_bytes_max: rng.one_of(&[100, 4_000, 64 << 10]),
            sq_entries: rng.one_of(&[2, 8, 64]),
            enter_ns_max: ENTER_NS_MAX,
        }
    }
}
