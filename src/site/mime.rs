//! The media type of a file, by its name.

/// The `Content-Type` of a file of that path: by the extension of its last component, whatever its case.
///
/// Text is declared as UTF-8. What is unknown is `application/octet-stream`, and `nosniff` makes that final.
pub fn content_type(path: &[u8]) -> &'static str {
    let Some(extension) = extension(path) else { return UNKNOWN };
    if let Some((_, content_type)) = OVERRIDES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)) {
        return content_type;
    }
    match mime_guess::from_ext(extension).first_raw() {
        Some(guess) if guess.starts_with("text/") => PLAIN,
        Some(guess) => guess,
        None => UNKNOWN,
    }
}

const UNKNOWN: &str = "application/octet-stream";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What is served often, what the general table has outdated or not at all, and every text type that is not shown as
/// plain text. XML and SVG carry no charset: the document declares its own (RFC 7303 section 3).
const OVERRIDES: [(&str, &str); 40] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("txt", PLAIN),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("jxl", "image/jxl"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("wasm", "application/wasm"),
    ("htm", "text/html; charset=utf-8"),
    ("xml", "application/xml"),
    ("xsl", "application/xslt+xml"),
    ("md", "text/markdown; charset=utf-8"),
    ("markdown", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("ics", "text/calendar; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("appcache", "text/cache-manifest; charset=utf-8"),
    // The general table takes a TypeScript file for an MPEG stream, and has no YAML or TOML type as they are
    // registered.
    ("ts", PLAIN),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("ndjson", "application/x-ndjson"),
    ("zst", "application/zstd"),
    ("br", "application/x-brotli"),
    ("opus", "audio/ogg"),
    ("m4a", "audio/mp4"),
];

/// Whether files of that type are compressed already, so that nobody would compress them once more.
pub fn is_compressed(content_type: &str) -> bool {
    let is_media = ["image/", "audio/", "video/", "font/woff"].iter().any(|prefix| content_type.starts_with(prefix));
    match content_type {
        "image/svg+xml" | "image/bmp" | "image/x-icon" => false,
        _ => is_media || ARCHIVES.contains(&content_type),
    }
}

const ARCHIVES: [&str; 12] = [
    "application/gzip",
    "application/java-archive",
    "application/vnd.rar",
    "application/x-7z-compressed",
    "application/x-brotli",
    "application/x-bzip",
    "application/x-bzip2",
    "application/x-compressed",
    "application/x-rar-compressed",
    "application/x-xz",
    "application/zip",
    "application/zstd",
];

/// Whether a path names, by its extension, what pages are made of: code, styles, pictures, fonts, media, data. Only names
/// that nobody would take for a page's: `/v1.2` and `/users/john.doe` are none.
pub fn is_asset(path: &[u8]) -> bool {
    extension(path).is_some_and(|extension| ASSETS.iter().any(|asset| asset.eq_ignore_ascii_case(extension)))
}

const ASSETS: [&str; 48] = [
    "7z",
    "aac",
    "apng",
    "avif",
    "bin",
    "bmp",
    "br",
    "css",
    "csv",
    "eot",
    "flac",
    "gif",
    "gz",
    "ico",
    "jpeg",
    "jpg",
    "js",
    "json",
    "jsonld",
    "jxl",
    "m4a",
    "m4v",
    "map",
    "mjs",
    "mov",
    "mp3",
    "mp4",
    "oga",
    "ogg",
    "ogv",
    "opus",
    "otf",
    "pdf",
    "png",
    "rss",
    "svg",
    "ttf",
    "txt",
    "vtt",
    "wasm",
    "wav",
    "webm",
    "webmanifest",
    "webp",
    "woff",
    "woff2",
    "xml",
    "zip",
];

/// What follows the last dot of the last component. A dotfile (`.profile`) has none.
fn extension(path: &[u8]) -> Option<&str> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    std::str::from_utf8(name.get(dot + 1..)?).ok().filter(|extension| !extension.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_extension() {
        let cases: [(&[u8], &str); 22] = [
            (b"index.html", "text/html; charset=utf-8"),
            (b"a/b.c/INDEX.HTML", "text/html; charset=utf-8"),
            (b"x.mjs", "text/javascript; charset=utf-8"),
            (b"app.js.map", "application/json"),
            (b"x.json", "application/json"),
            (b"x.wasm", "application/wasm"),
            (b"x.woff2", "font/woff2"),
            (b"x.woff", "font/woff"),
            (b"README.md", "text/markdown; charset=utf-8"),
            (b"x.svg", "image/svg+xml"),
            (b"feed.xml", "application/xml"),
            (b"x.pdf", "application/pdf"),
            (b"x.mp4", "video/mp4"),
            (b"x.tar.gz", "application/gzip"),
            (b"main.rs", PLAIN),
            (b"page.shtml", PLAIN),
            (b"Makefile", UNKNOWN),
            (b"dir.html/file", UNKNOWN),
            (b".html", UNKNOWN),
            (b"name.", UNKNOWN),
            (b"x.\xff\xfe", UNKNOWN),
            (b"", UNKNOWN),
        ];
        for (path, expected) in cases {
            assert_eq!(content_type(path), expected, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn what_is_compressed_already() {
        for name in ["a.png", "a.jpg", "a.webp", "a.mp4", "a.mp3", "a.woff", "a.woff2", "a.css.gz", "a.br", "a.zst"] {
            assert!(is_compressed(content_type(name.as_bytes())), "{name}");
        }
        for name in ["a.zip", "a.7z", "a.rar", "a.xz", "a.bz2", "a.jar"] {
            assert!(is_compressed(content_type(name.as_bytes())), "{name}: {}", content_type(name.as_bytes()));
        }
        for name in ["a.html", "a.svg", "a.ico", "a.bmp", "a.wasm", "a.ttf", "a.otf", "a.json", "a.bin", "LICENSE"] {
            assert!(!is_compressed(content_type(name.as_bytes())), "{name}");
        }
    }

    #[test]
    fn every_type_can_stand_in_a_field_and_every_text_names_its_charset() {
        for (extension, content_type) in OVERRIDES {
            assert!(content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{extension}");
            assert_eq!(content_type.starts_with("text/"), content_type.ends_with("; charset=utf-8"), "{extension}");
            assert_eq!(
                OVERRIDES.iter().filter(|(other, _)| *other == extension).count(),
                1,
                "{extension} is there twice"
            );
        }
    }
}
