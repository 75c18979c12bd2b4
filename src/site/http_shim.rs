//! Stand-ins for parts of `http` until they are merged; then this file goes.
#![allow(missing_docs)]

pub(crate) mod date {
    pub(crate) fn imf_fixdate(unix_s: u64) -> [u8; 29] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_s);
        httpdate::fmt_http_date(time).into_bytes().try_into().unwrap_or([b' '; 29])
    }
    pub(crate) fn parse(text: &[u8]) -> Option<u64> {
        let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
        Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
    }
}

pub(crate) mod path {
    #[derive(Debug)]
    pub(crate) enum PathError {
        BadRequest,
        NotFound,
    }
    pub(crate) fn normalise(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
        let mut decoded = Vec::new();
        let mut bytes = raw.iter();
        while let Some(byte) = bytes.next() {
            if *byte != b'%' {
                decoded.push(*byte);
                continue;
            }
            let hex = [bytes.next(), bytes.next()].map(|digit| digit.and_then(|digit| char::from(*digit).to_digit(16)));
            let [Some(high), Some(low)] = hex else { return Err(PathError::BadRequest) };
            match (high * 16 + low) as u8 {
                0 | b'\r' | b'\n' => return Err(PathError::BadRequest),
                b'/' => return Err(PathError::NotFound),
                byte => decoded.push(byte),
            }
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut slash = false;
        for part in decoded.split(|byte| *byte == b'/').skip(1) {
            slash = matches!(part, b"" | b"." | b"..");
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop().ok_or(PathError::BadRequest)?),
                part => parts.push(part),
            }
        }
        out.clear();
        out.extend_from_slice(&parts.join(&b'/'));
        if slash && !out.is_empty() {
            out.push(b'/');
        }
        Ok(())
    }
}

pub(crate) mod range {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Span {
        pub start: u64,
        pub len: u64,
    }
    pub(crate) enum Ranges {
        Ignore,
        Unsatisfiable,
        Satisfiable(Vec<Span>),
    }
    pub(crate) fn parse(value: &[u8], len: u64) -> Ranges {
        let Some(Some(list)) = std::str::from_utf8(value).ok().map(|value| value.strip_prefix("bytes=")) else {
            return Ranges::Ignore;
        };
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for one in list.split(',') {
            let Some((first, last)) = one.trim().split_once('-') else { return Ranges::Ignore };
            let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(len)),
                (Ok(first), Err(_)) if last.is_empty() => (first, len),
                (Err(_), Ok(suffix)) if first.is_empty() => (len.saturating_sub(suffix), len),
                _ => return Ranges::Ignore,
            };
            if start < end {
                spans.push((start, end));
            }
        }
        spans.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        match merged.len() {
            0 => Ranges::Unsatisfiable,
            _ => Ranges::Satisfiable(merged.iter().map(|(start, end)| Span { start: *start, len: end - start }).collect()),
        }
    }
}

pub(crate) mod conditional {
    use super::date;
    use crate::http::request::{Fields, Known, Method};
    pub(crate) enum Condition {
        Proceed,
        NotModified,
        PreconditionFailed,
    }
    fn listed(value: &[u8], etag: &[u8]) -> bool {
        value.split(|byte| *byte == b',').map(|one| one.trim_ascii()).any(|one| one == etag || one == b"*")
    }
    pub(crate) fn evaluate(fields: &Fields<'_>, method: Method, etag: &[u8], mtime_s: u64, _now_s: u64) -> Condition {
        if let Some(value) = fields.get(Known::IfMatch) {
            if !listed(value, etag) {
                return Condition::PreconditionFailed;
            }
        } else if let Some(date) = fields.get(Known::IfUnmodifiedSince).and_then(date::parse)
            && mtime_s > date
        {
            return Condition::PreconditionFailed;
        }
        if let Some(value) = fields.get(Known::IfNoneMatch) {
            if listed(value, etag) {
                return match method {
                    Method::Get | Method::Head => Condition::NotModified,
                    _ => Condition::PreconditionFailed,
                };
            }
        } else if let Some(date) = fields.get(Known::IfModifiedSince).and_then(date::parse)
            && mtime_s <= date
        {
            return Condition::NotModified;
        }
        Condition::Proceed
    }
    pub(crate) fn if_range_holds(fields: &Fields<'_>, etag: &[u8], mtime_s: u64, _now_s: u64) -> bool {
        fields.get(Known::IfRange).is_none_or(|value| value == etag || date::parse(value) == Some(mtime_s))
    }
}

pub(crate) mod response {
    use crate::http::status::Status;
    use std::io::Write;
    pub enum BodyFraming {
        None,
        Length(u64),
        Chunked,
        UntilClose,
    }
    pub(crate) fn write_status(out: &mut Vec<u8>, status: Status) {
        let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.code(), status.phrase());
    }
    pub(crate) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}
