use super::*;

/// Version 2 with this command, family and what follows.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
}

const V4: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb];

fn extra(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

fn v4() -> Option<Ends> {
    Some(Ends { source: "192.0.2.1:4711".parse().unwrap(), destination: "10.0.0.1:443".parse().unwrap() })
}

fn v6() -> Option<Ends> {
    Some(Ends { source: "[2001:db8::1]:4711".parse().unwrap(), destination: "[2001:db8::2]:443".parse().unwrap() })
}

/// Every header in the table, cut at every byte, is not whole before its end; and what follows it is not looked at.
#[test]
fn headers_of_both_versions() {
    let v6_block: Vec<u8> =
        ["2001:db8::1".parse::<Ipv6Addr>().unwrap().octets(), "2001:db8::2".parse::<Ipv6Addr>().unwrap().octets()]
            .concat();
    let v6_block = [&v6_block[..], &V4[8..]].concat();
    let mapped = [&"::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets()[..], &v6_block[16..]].concat();
    let tls = |bits: u8| extra(0x20, &[&[bits, 0, 0, 0, 0][..], &extra(0x21, b"TLSv1.3")].concat());
    let long = binary(0x21, 0x11, &[V4, &extra(0x04, &[0; 4000])].concat());
    let mapped_ends = Ends { source: "192.0.2.1:4711".parse().unwrap(), ..v6().unwrap() };
    let table: [(Vec<u8>, Option<Ends>, Option<bool>); 21] = [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(), v4(), None),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(), v6(), None),
        (b"PROXY UNKNOWN\r\n".to_vec(), None, None),
        (b"PROXY UNKNOWN whatever 1 2 3\r\n".to_vec(), None, None),
        (
            b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".to_vec(),
            None,
            None,
        ),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 0 65535\r\n".to_vec(), Some(Ends { source: "192.0.2.1:0".parse().unwrap(), destination: "10.0.0.1:65535".parse().unwrap() }), None),
        (binary(0x21, 0x11, V4), v4(), None),
        (binary(0x21, 0x12, V4), v4(), None),
        (binary(0x21, 0x21, &v6_block), v6(), None),
        (binary(0x21, 0x22, &v6_block), v6(), None),
        (binary(0x21, 0x21, &mapped), Some(mapped_ends), None),
        (binary(0x21, 0x31, &[0; 216]), None, None),
        (binary(0x21, 0x00, &[]), None, None),
        (binary(0x21, 0x00, &tls(1)), None, Some(true)),
        (binary(0x20, 0x00, &[]), None, None),
        (binary(0x20, 0x11, V4), None, None),
        // A proxy's own check: whatever is in it is skipped.
        (binary(0x20, 0xff, b"\x20\xff"), None, None),
        (binary(0x21, 0x11, &[V4, &extra(0x01, b"h2"), &extra(0xee, b""), &tls(7)].concat()), v4(), Some(true)),
        (binary(0x21, 0x11, &[V4, &tls(0)].concat()), v4(), Some(false)),
        (with_checksum(&tls(1)), v4(), Some(true)),
        (long, v4(), None),
    ];
    for (bytes, ends, https) in table {
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{} bytes of {}", cut, bytes.escape_ascii());
        }
        let whole = Ok(Some(Header { len: bytes.len(), ends, https }));
        assert_eq!(parse(&bytes), whole, "{}", bytes.escape_ascii());
        assert_eq!(parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()), whole, "{}", bytes.escape_ascii());
    }
}

fn with_checksum(rest: &[u8]) -> Vec<u8> {
    let mut header = binary(0x21, 0x11, &[V4, &extra(0x03, &[0; 4]), rest].concat());
    let sum = crc32c(header.iter().copied()).to_be_bytes();
    let at = FIXED_BYTES + V4.len() + 3;
    header[at..at + 4].copy_from_slice(&sum);
    header
}

#[test]
fn what_is_no_header_is_refused() {
    let mut wrong_sum = with_checksum(b"");
    *wrong_sum.last_mut().unwrap() ^= 1;
    let mut altered = with_checksum(b"");
    altered[FIXED_BYTES] ^= 1;
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    let table: [(Vec<u8>, Fault); 33] = [
        (b"GET / HTTP/1.1\r\n".to_vec(), Fault::NoHeader),
        (b"POST / HTTP/1.1\r\n".to_vec(), Fault::NoHeader),
        (b"PRO".iter().chain(b"xy").copied().collect(), Fault::NoHeader),
        (b"PROXY\t".to_vec(), Fault::NoHeader),
        (b"proxy TCP4".to_vec(), Fault::NoHeader),
        (b"\r\n\r\n\0\r\nQUIX".to_vec(), Fault::NoHeader),
        (b"\x16\x03\x01".to_vec(), Fault::NoHeader),
        (b"\r\nPROXY".to_vec(), Fault::NoHeader),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\n".to_vec(), Fault::BadLine),
        (line(""), Fault::BadLine),
        (line("TCP5 192.0.2.1 10.0.0.1 1 2"), Fault::BadLine),
        (line("UNKNOWNS"), Fault::BadLine),
        (line("TCP4 192.0.2.1 10.0.0.1 1"), Fault::BadLine),
        (line("TCP4 192.0.2.1 10.0.0.1 1 2 3"), Fault::BadLine),
        (line("TCP4 192.0.2.1 10.0.0.1 1 2 "), Fault::BadLine),
        (line("TCP4  192.0.2.1 10.0.0.1 1 2"), Fault::BadLine),
        (line("TCP4 192.0.2.1 10.0.0.1 01 2"), Fault::BadLine),
        (line("TCP4 192.0.2.1 10.0.0.1 +1 2"), Fault::BadLine),
        (line("TCP4 192.0.2.1 10.0.0.1 65536 2"), Fault::BadLine),
        (line("TCP4 192.0.2.01 10.0.0.1 1 2"), Fault::BadLine),
        (line("TCP4 2001:db8::1 2001:db8::2 1 2"), Fault::BadLine),
        (line("TCP6 192.0.2.1 10.0.0.1 1 2"), Fault::BadLine),
        (line(&"x".repeat(200)), Fault::BadLine),
        (binary(0x11, 0x11, V4), Fault::BadHeader),
        (binary(0x22, 0x11, V4), Fault::BadHeader),
        (binary(0x21, 0x13, V4), Fault::BadHeader),
        (binary(0x21, 0x11, &V4[..11]), Fault::BadHeader),
        (binary(0x21, 0x21, &[0; 35]), Fault::BadHeader),
        (binary(0x21, 0x31, &[0; 215]), Fault::BadHeader),
        (binary(0x21, 0x11, &[V4, b"\x04\0"].concat()), Fault::BadHeader),
        (binary(0x21, 0x11, &[V4, b"\x04\0\x02x"].concat()), Fault::BadHeader),
        (wrong_sum, Fault::BadChecksum),
        (altered, Fault::BadChecksum),
    ];
    for (bytes, fault) in table {
        assert_eq!(parse(&bytes), Err(fault), "{}", bytes.escape_ascii());
    }
    let short_tls = binary(0x21, 0x11, &[V4, &extra(0x20, &[1, 0, 0, 0])].concat());
    assert_eq!(parse(&short_tls), Err(Fault::BadHeader));
    let short_sum = binary(0x21, 0x11, &[V4, &extra(0x03, &[1, 0, 0])].concat());
    assert_eq!(parse(&short_sum), Err(Fault::BadHeader));
    // Before the rest of it could be waited for.
    let too_long = [SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat();
    assert_eq!(parse(&too_long), Err(Fault::TooLong));
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
}
