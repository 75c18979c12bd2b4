//! `--scenario FILE`: requests, how often each, and what to expect, in TOML. Unknown keys are errors.
//!
//! ```toml
//! [[request]]
//! weight = 9
//! path = "/index.html"
//! expect = { status = 200, length = 1024, crc32 = "cbf43926" }
//!
//! [[request]]
//! method = "POST"
//! path = "/cgi-bin/form.py"
//! headers = { Accept = "text/html" }
//! body = "a=b"            # or body_file = "form.txt", or body_size = "64k"
//!
//! [[request]]
//! path = "/large.bin"
//! range = "0-1023"
//! expect = { status = 206, length = 1024 }
//! ```

use std::path::Path;

use toml::{Table, Value};

use crate::cli;
use crate::prepare::{check_method, filler, read_bytes};
use crate::target::Url;
use crate::traffic::{Expect, Request};

/// Reads a scenario. `base` is the server, and `folder` where files are looked for.
///
/// # Errors
/// A line that says what is wrong, in which request.
pub fn parse(text: &str, base: &Url, folder: &Path) -> Result<Vec<Request>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    only(&table, &["request"])?;
    let requests = match table.get("request") {
        Some(Value::Array(requests)) if !requests.is_empty() => requests,
        _ => return Err(String::from("there is no [[request]]")),
    };
    let parsed = (1..).zip(requests).map(|(number, value)| {
        let table = value.as_table().ok_or_else(|| String::from("write [[request]]"));
        table.and_then(|table| request(table, base, folder)).map_err(|why| format!("request {number}: {why}"))
    });
    parsed.collect()
}

fn request(table: &Table, base: &Url, folder: &Path) -> Result<Request, String> {
    only(table, &["weight", "method", "path", "headers", "body", "body_file", "body_size", "range", "expect"])?;
    let url = base.with_path(text(table, "path")?.unwrap_or(&base.path))?;
    let body = body(table, folder)?;
    let default = if body.is_empty() { "GET" } else { "POST" };
    let method = text(table, "method")?.unwrap_or(default);
    check_method(method)?;
    let mut headers = Vec::new();
    if let Some(fields) = sub_table(table, "headers")? {
        for (name, value) in fields {
            let value = value.as_str().ok_or_else(|| format!("the value of the field `{name}` is no string"))?;
            cli::check_header(name, value)?;
            headers.push((name.clone(), value.to_owned()));
        }
    }
    if let Some(range) = text(table, "range")? {
        cli::check_header("Range", range)?;
        headers.push((String::from("Range"), format!("bytes={range}")));
    }
    let expect = sub_table(table, "expect")?.map(expect).transpose()?.unwrap_or_default();
    let weight = match number(table, "weight")? {
        None => 1,
        Some(weight) => u32::try_from(weight).map_err(|_| format!("the weight {weight} is too large"))?,
    };
    Ok(Request { weight, ..Request::new(method, &url, &headers, &body, expect) })
}

fn expect(table: &Table) -> Result<Expect, String> {
    only(table, &["status", "length", "crc32"])?;
    let status = match number(table, "status")? {
        None => None,
        Some(status @ 200..=999) => Some(status as u16),
        Some(status) => return Err(format!("{status} is no status of a final answer")),
    };
    let crc32 = match text(table, "crc32")? {
        None => None,
        Some(digits) => Some(u32::from_str_radix(digits, 16).map_err(|_| format!("`{digits}` is no CRC-32 in hex"))?),
    };
    Ok(Expect { status, length: number(table, "length")?, crc32 })
}

fn body(table: &Table, folder: &Path) -> Result<Vec<u8>, String> {
    let size = match table.get("body_size") {
        None => None,
        Some(Value::Integer(size)) => Some(cli::size(&size.to_string())?),
        Some(Value::String(size)) => Some(cli::size(size)?),
        Some(_) => return Err(String::from("`body_size` is a number, or a string as in \"64k\"")),
    };
    match (text(table, "body")?, text(table, "body_file")?, size) {
        (None, None, None) => Ok(Vec::new()),
        (Some(text), None, None) => Ok(text.as_bytes().to_vec()),
        (None, Some(path), None) => read_bytes(&folder.join(path)),
        (None, None, Some(size)) => Ok(filler(size)),
        _ => Err(String::from("there is more than one of `body`, `body_file` and `body_size`")),
    }
}

fn only(table: &Table, known: &[&str]) -> Result<(), String> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("`{key}` is not known here; there are {}", known.join(", "))),
        None => Ok(()),
    }
}

fn text<'t>(table: &'t Table, key: &str) -> Result<Option<&'t str>, String> {
    table.get(key).map(|value| value.as_str().ok_or_else(|| format!("`{key}` is no string"))).transpose()
}

fn number(table: &Table, key: &str) -> Result<Option<u64>, String> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("`{key}` is no whole number of 0 or more"))
}

fn sub_table<'t>(table: &'t Table, key: &str) -> Result<Option<&'t Table>, String> {
    table.get(key).map(|value| value.as_table().ok_or_else(|| format!("`{key}` is no table"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Request>, String> {
        parse(text, &Url::parse("http://h:81/base").unwrap(), Path::new("."))
    }

    #[test]
    fn the_example_of_the_documentation_is_understood() {
        let text = r#"
            [[request]]
            weight = 9
            path = "/index.html"
            expect = { status = 200, length = 1024, crc32 = "cbf43926" }
            [[request]]
            method = "PUT"
            path = "/form"
            headers = { Accept = "text/html" }
            body = "a=b"
            [[request]]
            path = "/large.bin"
            range = "0-1023"
            expect = { status = 206 }
            [[request]]
            body_size = "1k"
        "#;
        let requests = read(text).unwrap();
        assert_eq!(requests.iter().map(|request| request.weight).collect::<Vec<_>>(), [9, 1, 1, 1]);
        assert_eq!(requests[0].expect, Expect { status: Some(200), length: Some(1024), crc32: Some(0xcbf4_3926) });
        let bytes = |at: usize| String::from_utf8_lossy(&requests[at].bytes).into_owned();
        let put = "PUT /form HTTP/1.1\r\nHost: h:81\r\nContent-Length: 3\r\nAccept: text/html\r\n\r\na=b";
        assert_eq!(bytes(1), put);
        assert!(bytes(2).contains("\r\nRange: bytes=0-1023\r\n"));
        assert!(bytes(3).starts_with("POST /base HTTP/1.1\r\n") && bytes(3).contains("Content-Length: 1000\r\n"));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, why) in [
            ("", "no [[request]]"),
            ("[[request]]\nwieght = 1", "request 1: `wieght` is not known"),
            ("[[request]]\n[[request]]\nweight = -1", "request 2: `weight`"),
            ("[[request]]\nweight = 1.5", "`weight`"),
            ("[[request]]\npath = \"x\"", "begins with a slash"),
            ("[[request]]\nmethod = \"G E\"", "no method"),
            ("[[request]]\nbody = \"a\"\nbody_size = 1", "more than one"),
            ("[[request]]\nbody_file = \"/nowhere/at/all\"", "cannot be read"),
            ("[[request]]\nexpect = { status = 100 }", "100 is no status"),
            ("[[request]]\nexpect = { crc32 = \"xyz\" }", "no CRC-32"),
            ("[[request]]\nheaders = { \"a b\" = \"c\" }", "no name of a field"),
            ("[[request]]\nheaders = { a = \"c\\r\\nd\" }", "control character"),
            ("[[request]]\nrange = \"0-1\\nx\"", "control character"),
            ("request = 1", "no [[request]]"),
            ("x = ", "TOML"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
