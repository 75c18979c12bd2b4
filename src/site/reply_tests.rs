use super::super::testing::CONTEXT;
use super::*;

fn head(reply: &Reply<'_>, context: &HeadContext<'_>) -> String {
    let mut head = Vec::new();
    reply.write_head(&mut head, context);
    String::from_utf8(head).expect("ASCII").replace("\r\n", "\n")
}

#[test]
fn an_error_has_a_page_of_the_length_it_says() {
    let reply = Reply::error(Status::NOT_FOUND);
    let Body::Bytes(page) = reply.body(&CONTEXT) else { panic!("a page") };
    assert_eq!(reply.content_length(), Some(page.len() as u64));
    assert_eq!(
        head(&reply, &CONTEXT),
        format!(
            "HTTP/1.1 404 Not Found\nServer: ucaffeine\nX-Content-Type-Options: nosniff\n\
             Content-Type: text/html; charset=utf-8\nContent-Length: {}\nDate: Sat, 21 Nov 2026 11:10:46 GMT\n\n",
            page.len()
        )
    );
}

#[test]
fn a_head_request_gets_the_same_head_and_no_body() {
    let context = HeadContext { is_head: true, ..CONTEXT };
    for reply in [Reply::error(Status::BAD_GATEWAY), Reply::unavailable(3), Reply::method_not_allowed(Allow::Script)] {
        assert_eq!(head(&reply, &context), head(&reply, &CONTEXT));
        assert_eq!(reply.body(&context), Body::Empty);
        assert_ne!(reply.body(&CONTEXT), Body::Empty);
    }
}

#[test]
fn a_status_without_a_page_says_that_it_is_empty() {
    let reply = Reply::error(Status::from_code(499).expect("in range"));
    assert!(head(&reply, &CONTEXT).contains("\nContent-Length: 0\n"));
    assert!(!head(&reply, &CONTEXT).contains("Content-Type:"));
    assert_eq!(reply.body(&CONTEXT), Body::Empty);
}

#[test]
fn options_has_no_length() {
    let head = head(&Reply::options(Allow::File), &CONTEXT);
    assert!(head.starts_with("HTTP/1.1 204 No Content\n") && head.contains("\nAllow: GET, HEAD, OPTIONS\n"));
    assert!(!head.contains("Content-Length"), "RFC 9110 section 8.6");
}

#[test]
fn a_busy_server_says_when_to_come_back() {
    assert!(head(&Reply::unavailable(120), &CONTEXT).contains("\nRetry-After: 120\n"));
    assert!(!head(&Reply::error(Status::SERVICE_UNAVAILABLE), &CONTEXT).contains("Retry-After"));
}

#[test]
fn what_becomes_of_the_connection() {
    let cases = [
        (Version::Http11, true, "GMT\n\n"),
        (Version::Http11, false, "GMT\nConnection: close\n\n"),
        (Version::Http10, true, "GMT\nConnection: keep-alive\n\n"),
        (Version::Http10, false, "GMT\nConnection: close\n\n"),
    ];
    for (version, keep_alive, end) in cases {
        let context = HeadContext { version, keep_alive, ..CONTEXT };
        assert!(head(&Reply::error(Status::NOT_FOUND), &context).ends_with(end), "{version:?} {keep_alive}");
    }
}

proptest::proptest! {
    /// Whatever a directory is called, a browser stays on this host and reads one field.
    #[test]
    fn a_location_is_a_path(
        path in proptest::collection::vec(proptest::sample::select(b"a/\\\r\n\0 .:?#%\xff".to_vec()), 1..12),
        query in proptest::option::of(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..12)),
    ) {
        proptest::prop_assume!(path[0] != b'/');
        let head = head(&Reply::moved(&path, query.as_deref()), &CONTEXT);
        let location = head.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a redirect");
        assert!(location.starts_with('/') && !location[1..].starts_with(['/', '\\']), "{location}");
        assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location}");
        assert_eq!(head.lines().filter(|line| line.is_empty()).count(), 1, "{head}");
    }
}
