//! Why a request is refused: one row per reason, with its status and the words for the log.

use super::status::Status;

/// A request that is not served: answer `status`, then close with a lingering close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer.
    pub status: Status,
    /// The reason in a few words, for logs and the body of the answer.
    pub why: &'static str,
}

/// Declares the reasons; a state keeps one byte and the table has the rest.
macro_rules! faults {
    ($($name:ident $status:ident $why:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Fault { $($name,)* }

        impl Fault {
            pub(super) const fn refusal(self) -> Refusal {
                match self { $(Fault::$name => Refusal { status: Status::$status, why: $why },)* }
            }
        }
    };
}

faults! {
    // The bytes of a head, in the order in which a reader meets them (http::scan).
    NotHttp             BAD_REQUEST             "not an HTTP request",
    MethodTooLong       NOT_IMPLEMENTED         "unknown method",
    TargetByte          BAD_REQUEST             "forbidden byte in the target",
    TargetTooLong       URI_TOO_LONG            "target too long",
    MajorVersion        VERSION_NOT_SUPPORTED   "only HTTP/1 is spoken here",
    VersionText         BAD_REQUEST             "malformed version",
    BareLf              BAD_REQUEST             "bare LF",
    BareCr              BAD_REQUEST             "bare CR",
    Folded              BAD_REQUEST             "a field line starts with white space",
    Nameless            BAD_REQUEST             "field without a name",
    FieldName           BAD_REQUEST             "malformed field name",
    SpaceBeforeColon    BAD_REQUEST             "white space before the colon",
    FieldValue          BAD_REQUEST             "control character in a field value",
    FieldTooLarge       FIELDS_TOO_LARGE        "field too large",
    TooManyFields       FIELDS_TOO_LARGE        "too many fields",
    HeadTooLarge        FIELDS_TOO_LARGE        "head too large",

    // The meaning of a whole head (http::head, http::target, http::body).
    UnknownMethod       NOT_IMPLEMENTED         "unknown method",
    Connect             NOT_IMPLEMENTED         "this is not a proxy",
    TargetForm          BAD_REQUEST             "malformed target",
    Authority           BAD_REQUEST             "malformed authority in the target",
    NoHost              BAD_REQUEST             "no Host",
    RepeatedHost        BAD_REQUEST             "more than one Host",
    BadHost             BAD_REQUEST             "malformed Host",
    ContentLength       BAD_REQUEST             "malformed Content-Length",
    RepeatedLength      BAD_REQUEST             "more than one Content-Length",
    LengthAndEncoding   BAD_REQUEST             "Content-Length together with Transfer-Encoding",
    EncodingOn10        BAD_REQUEST             "Transfer-Encoding on HTTP/1.0",
    TransferEncoding    BAD_REQUEST             "Transfer-Encoding is not one chunked",
    Expectation         EXPECTATION_FAILED      "unknown expectation",

    // A chunked body (http::chunked).
    ChunkSize           BAD_REQUEST             "malformed chunk size",
    ChunkExtension      BAD_REQUEST             "malformed chunk extension",
    ChunkExtensions     BAD_REQUEST             "chunk extensions too large",
    ChunkEnd            BAD_REQUEST             "no CRLF after a chunk",
    Trailer             BAD_REQUEST             "malformed trailer",
    TrailersTooLarge    FIELDS_TOO_LARGE        "trailers too large",

    // Time, and a peer that left.
    HeadTimeout         REQUEST_TIMEOUT         "the head took too long",
    BodyTimeout         REQUEST_TIMEOUT         "the body came too slowly",
    CutHead             BAD_REQUEST             "the head was cut off",
}
