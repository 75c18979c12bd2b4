//! The fuzz targets on a stable toolchain: the seeds of `fuzz/seeds`, and then mutations of them for a while.
//!
//! `UCAFFEINE_FUZZ_SECONDS` (2) is shared by the targets; `UCAFFEINE_FUZZ_SEED` repeats a run.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use ucaffeine::http::fuzzing;
use ucaffeine::site::fuzzing as site;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 8] = [
    ("request", fuzzing::request),
    ("chunked", fuzzing::chunked),
    ("path", fuzzing::path),
    ("range", fuzzing::range),
    ("coding", fuzzing::coding),
    ("authorization", site::authorization),
    ("host", site::host),
    ("htpasswd", site::htpasswd),
];

/// Longer inputs only cost time: every bound of the small limits is crossed by less.
const INPUT_BYTES_MAX: usize = 1_024;

/// What inputs are made of beside their own bytes.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"\x7f",
    b"\xff",
    b"GET ",
    b"POST ",
    b"OPTIONS ",
    b"* ",
    b"HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/1.2\r\n",
    b" HTTP/2.0\r\n",
    b"http://a:80/",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"chunked",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b";a=\"b\"",
    b"ffffffffffffffff",
    b"/",
    b"..",
    b".",
    b"%2e",
    b"%2F",
    b"%25",
    b"%00",
    b"/../",
    b"/.well-known/",
    b"bytes=",
    b"-",
    b",",
    b"18446744073709551615",
    b"0-0,",
    b"gzip",
    b"br",
    b"identity",
    b"*",
    b";q=0.5",
    b";q=0",
    b"?",
    b"#",
    b"Basic ",
    b"=",
    b"a.example",
    b"*.a.example",
    b"[::1]",
    b"$2y$05$",
    b"$6$rounds=",
    b"{SHA}",
];

#[test]
fn seeds_and_their_mutations_hold() {
    let seconds = env_number("UCAFFEINE_FUZZ_SECONDS").unwrap_or(2);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = env_number("UCAFFEINE_FUZZ_SEED").unwrap_or(clock.as_nanos() as u64);
    println!("UCAFFEINE_FUZZ_SEED={seed}");
    for (name, target) in TARGETS {
        let seeds = read_seeds(name);
        assert!(seeds.len() >= 5, "{name} has seeds");
        for (file, input) in &seeds {
            Case { target: name, seed, what: file.clone(), input }.run(target);
        }
        let until = Instant::now() + Duration::from_secs(seconds) / TARGETS.len() as u32;
        let (mut random, mut runs) = (Random(seed | 1), 0u64);
        while Instant::now() < until {
            for _ in 0..100 {
                let input = mutate(&mut random, &seeds);
                Case { target: name, seed, what: format!("mutation {runs}"), input: &input }.run(target);
                runs += 1;
            }
        }
        println!("{name}: {} seeds, {runs} mutations", seeds.len());
    }
}

/// One input. Dropped in a panic, it says which one.
struct Case<'i> {
    target: &'static str,
    seed: u64,
    what: String,
    input: &'i [u8],
}

impl Case<'_> {
    fn run(self, target: Target) {
        target(self.input);
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}, {}, UCAFFEINE_FUZZ_SEED={}: b\"{}\"",
                self.target,
                self.what,
                self.seed,
                self.input.escape_ascii()
            );
        }
    }
}

fn read_seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    seeds.sort();
    seeds
}

/// A seed with a few edits: bytes and words written, inserted, taken out, repeated, and the rest of another seed.
fn mutate(random: &mut Random, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].1.clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(20)).min(input.len());
        let word = WORDS[random.below(WORDS.len())];
        match random.below(7) {
            0 if at < end => input[at] = random.next() as u8,
            1 if at < end => input[at] ^= 1 << random.below(8),
            2 => _ = input.splice(at..at, word.iter().copied()),
            3 => _ = input.splice(at..end, word.iter().copied()),
            4 => _ = input.drain(at..end),
            5 => {
                let piece = input[at..end].repeat(1 + random.below(8));
                input.splice(at..end, piece);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())].1;
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
