//! Bytes in, meaning out; and the same whatever the pieces they come in.

use proptest::prelude::*;

use super::*;

/// What one response came to: status, body, whether the connection stays.
type Whole = (u16, Vec<u8>, bool);

/// All responses in `pieces`, and then the end of input.
fn read(pieces: &[&[u8]], to_head: bool) -> Result<Vec<Whole>, Fault> {
    let mut reader = Reader::default();
    let mut all: Vec<Whole> = Vec::new();
    let (mut body, mut wire, mut fed) = (Vec::new(), 0, 0);
    let mut head = None;
    let mut finish = |head: &mut Option<Head>, body: &mut Vec<u8>, extent: Extent| {
        let head = head.take().expect("a head before the end");
        assert_eq!(extent.body_bytes, body.len() as u64);
        wire += extent.wire_bytes;
        all.push((head.status, std::mem::take(body), head.keeps_alive));
    };
    for piece in pieces {
        let mut input = *piece;
        fed += piece.len() as u64;
        while let Some(part) = reader.next(&mut Heads::default(), &mut input, to_head)? {
            match part {
                Part::Head(new) => assert!(head.replace(new).is_none(), "two heads"),
                Part::Body(bytes) => body.extend_from_slice(bytes),
                Part::End(extent) => finish(&mut head, &mut body, extent),
            }
        }
        assert!(input.is_empty(), "starved with {} bytes left", input.len());
    }
    if let Some(extent) = reader.end_of_input()? {
        finish(&mut head, &mut body, extent);
    }
    assert!(wire <= fed);
    Ok(all)
}

fn one(text: &str) -> Result<Whole, Fault> {
    read(&[text.as_bytes()], false).map(|mut all| {
        assert_eq!(all.len(), 1, "{text:?}");
        all.remove(0)
    })
}

/// (what comes, what it means)
const WHOLE: &[(&str, (u16, &str, bool))] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, "hello", true)),
    ("HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", (200, "", true)),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\nA", (200, "A", false)),
    ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nA", (200, "A", false)),
    ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nA", (200, "A", true)),
    ("HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, "until the end", false)),
    ("HTTP/1.1 204 No Content\r\n\r\n", (204, "", false)),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", (304, "", true)),
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nA", (200, "A", true)),
    ("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", (404, "", true)),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", (200, "hello", true)),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\na;x=\"y\"\r\n0123456789\r\n1\r\nA\r\n00\r\nT: x\r\nU: y\r\n\r\n",
        (200, "0123456789A", true),
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nA", (200, "A", true)),
];

const FAULTY: &[(&str, Fault)] = &[
    ("HTTP/2 200 OK\r\n\r\n", Fault::StatusLine),
    ("HTTP/1.1 20 OK\r\n\r\n", Fault::StatusLine),
    ("HTTP/1.1 099 OK\r\n\r\n", Fault::StatusLine),
    ("HTTP/1.1 2000\r\n\r\n", Fault::StatusLine),
    ("hello\r\n\r\n", Fault::StatusLine),
    ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", Fault::LineEnd),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", Fault::LineEnd),
    ("HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", Fault::LineEnd),
    ("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", Fault::Field),
    ("HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n", Fault::Field),
    ("HTTP/1.1 200 OK\r\n: a\r\n\r\n", Fault::Field),
    ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Fault::Field),
    ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Fault::Length),
    ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Fault::Length),
    ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n", Fault::Length),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nAB", Fault::Length),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::TransferEncoding),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Fault::TransferEncoding),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Fault::Chunk),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", Fault::Chunk),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nA\r\n0\r\n\r\n", Fault::Chunk),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nAB\r\n0\r\n\r\n", Fault::Chunk),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\nA\r\n", Fault::Chunk),
    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Fault::Interim),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", Fault::Truncated),
    ("HTTP/1.1 200 OK\r\nContent-Le", Fault::Truncated),
    ("HTTP/1.1 100 Continue\r\n\r\n", Fault::Truncated),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", Fault::Truncated),
];

#[test]
fn responses_mean_what_they_say() {
    for (text, (status, body, keeps_alive)) in WHOLE {
        assert_eq!(one(text), Ok((*status, body.as_bytes().to_vec(), *keeps_alive)), "{text:?}");
    }
}

#[test]
fn faults_are_told_apart() {
    for (text, fault) in FAULTY {
        assert_eq!(one(text), Err(*fault), "{text:?}");
    }
}

#[test]
fn every_split_means_the_same() {
    let faulty = FAULTY.iter().map(|(text, _)| *text);
    for text in WHOLE.iter().map(|(text, _)| *text).chain(faulty) {
        let whole = read(&[text.as_bytes()], false);
        for at in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(at);
            assert_eq!(read(&[first, second], false), whole, "{text:?} split at {at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes, false), whole, "{text:?} byte by byte");
    }
}

#[test]
fn a_response_to_head_has_no_body() {
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(&[two], true), Ok(vec![(200, vec![], true), (200, vec![], true)]));
}

#[test]
fn pipelined_responses_come_one_by_one() {
    let several: Vec<&(&str, _)> = WHOLE.iter().filter(|(_, meaning)| meaning.2).collect();
    let bytes: Vec<u8> = several.iter().flat_map(|(text, _)| text.bytes()).collect();
    let all = read(&[&bytes], false).unwrap();
    assert_eq!(all.len(), several.len());
    for (got, (_, (status, body, _))) in all.iter().zip(&several) {
        assert_eq!((got.0, got.1.as_slice()), (*status, body.as_bytes()));
    }
}

#[test]
fn heads_and_trailers_without_end_are_refused() {
    let long = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"X: y\r\n".repeat(20_000)].concat();
    assert_eq!(read(&[&long], false), Err(Fault::TooLong));
    let pieces: Vec<&[u8]> = long.chunks(1000).collect();
    assert_eq!(read(&pieces, false), Err(Fault::TooLong));
    let whole = [long.as_slice(), b"\r\n"].concat();
    assert_eq!(read(&[&whole], false), Err(Fault::TooLong));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    let trailers = [chunked, b"0\r\n", &b"T: u\r\n".repeat(20_000)].concat();
    assert_eq!(read(&[&trailers], false), Err(Fault::TooLong));
    let extension = [chunked, b"1;", &[b'x'; 5_000]].concat();
    assert_eq!(read(&[&extension], false), Err(Fault::Chunk));
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
    assert_eq!(read(&[&interim], false), Err(Fault::Interim));
}

#[test]
fn what_was_thrown_away_elsewhere_counts() {
    let mut reader = Reader::default();
    let mut input = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc".as_slice();
    let wire = input.len() as u64;
    assert!(matches!(reader.next(&mut Heads::default(), &mut input, false), Ok(Some(Part::Head(_)))));
    assert_eq!(reader.next(&mut Heads::default(), &mut input, false), Ok(Some(Part::Body(b"abc"))));
    assert_eq!(reader.body_left(), Some(997));
    reader.skip(997);
    let extent = Extent { wire_bytes: wire + 997, body_bytes: 1000 };
    assert_eq!(reader.next(&mut Heads::default(), &mut input, false), Ok(Some(Part::End(extent))));
    assert!(!reader.is_midway());
}

proptest! {
    /// Whatever comes, in whatever pieces: never a panic, never more out than in, and the pieces do not matter.
    #[test]
    fn noise_is_harmless_and_pieces_do_not_matter(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1usize..40,
        to_head in any::<bool>(),
    ) {
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        prop_assert_eq!(read(&pieces, to_head), read(&[&bytes], to_head));
    }

    /// The same for noise in the place of one byte of something that makes sense.
    #[test]
    fn one_wrong_byte_is_harmless(which in 0..WHOLE.len(), at in any::<prop::sample::Index>(), byte in any::<u8>(), piece in 1usize..40) {
        let mut bytes = WHOLE[which].0.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        prop_assert_eq!(read(&pieces, false), read(&[&bytes], false));
    }

    /// A body of any length comes out as it went in, plain and chunked.
    #[test]
    fn bodies_come_out_as_they_went_in(body in proptest::collection::vec(any::<u8>(), 0..2000), chunk in 1usize..500, piece in 1usize..700) {
        let mut plain = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        plain.extend_from_slice(&body);
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for data in body.chunks(chunk) {
            chunked.extend_from_slice(format!("{:X}\r\n", data.len()).as_bytes());
            chunked.extend_from_slice(data);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        for bytes in [plain, chunked] {
            let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
            prop_assert_eq!(read(&pieces, false), Ok(vec![(200, body.clone(), true)]));
        }
    }
}
