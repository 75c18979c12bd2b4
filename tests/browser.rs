//! A real browser against the example site: the page with its stylesheet, image and script, and a form answered by CGI.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Launch, Server, Site, on_path, run, skip};

/// The names that distributions give to the same browser.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

#[test]
fn the_page_is_whole() {
    let Some(browser) = browser() else { return };
    let (_site, server) = example();
    let dom = dump(&browser, &format!("http://{}/", server.addr));
    for part in ["data-image-width=\"480\"", "data-stylesheet=\"applied\"", "<h1>It is served</h1>"] {
        assert!(dom.contains(part), "no {part} in\n{dom}");
    }
    server.stop();
}

#[test]
fn the_form_is_answered_by_a_script() {
    let Some(browser) = browser() else { return };
    if !support::skip_or_fail("python3") {
        return;
    }
    let (_site, server) = example();
    let dom = dump(&browser, &format!("http://{}/?autosubmit", server.addr));
    for part in ["<span id=\"name\">Ada</span>", "Sent by &lt;script&gt; &amp; answered by CGI: 100 % µ"] {
        assert!(dom.contains(part), "no {part} in\n{dom}");
    }
    server.stop();
}

#[test]
fn a_picture_of_it() {
    let Some(browser) = browser() else { return };
    let (_site, server) = example();
    // Kept, so that a person can look at it: target/tmp/example-site.png.
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("example-site.png");
    let _ = std::fs::remove_file(&picture);
    let shot = format!("--screenshot={}", picture.display());
    browse(&browser, &[&shot, "--window-size=1000,1200", "--hide-scrollbars", &format!("http://{}/", server.addr)]);
    let bytes = std::fs::read(&picture).expect("the picture");
    assert!(bytes.starts_with(b"\x89PNG"));
    // A blank page of that size is a tenth of this: the picture alone is 20 KB.
    assert!(bytes.len() > 40_000, "{} bytes are too few for the page with its image", bytes.len());
    println!("look at {}", picture.display());
    server.stop();
}

/// A listing as a browser sees it: styled in spite of its policy, in both colours, and no name runs.
#[test]
fn a_listing_in_light_and_dark() {
    let Some(browser) = browser() else { return };
    let site = Site::new()
        .file("<img src=x onerror=document.title=1>", "")
        .file("\"onmouseover=alert(1) x=\"", "")
        .file("photo-10.jpg", "ten")
        .file("photo-9.jpg", "nine")
        .file("folder/inside/file.txt", "");
    let server = Launch::new(&site).args(["--listing"]).start();
    let url = format!("http://{}/", server.addr);
    let dom = dump(&browser, &url);
    assert!(dom.contains("<title>/</title>"), "a name ran:\n{dom}");
    assert!(!dom.contains("<img") && !dom.contains("onmouseover=\"") && dom.contains("&lt;img src=x"), "{dom}");
    assert!(dom.find("photo-9.jpg") < dom.find("photo-10.jpg"), "{dom}");
    assert!(dump(&browser, &format!("{url}folder/inside/")).contains("<a href=\"../../\"><bdi>Home</bdi></a>"));
    let shots = [("light", "1"), ("dark", "0")].map(|(name, scheme)| {
        // Kept, so that a person can look at it: target/tmp/listing-light.png and listing-dark.png.
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("listing-{name}.png"));
        let _ = std::fs::remove_file(&picture);
        let shot = format!("--screenshot={}", picture.display());
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        browse(&browser, &[&shot, &scheme, "--window-size=800,600", "--hide-scrollbars", &url]);
        std::fs::read(&picture).expect("the picture")
    });
    assert!(shots.iter().all(|bytes| bytes.starts_with(b"\x89PNG")));
    assert!(shots[0] != shots[1], "the dark page looks like the light one");
    server.stop();
}

/// The example site as a clone has it, served from a copy: what git ignores (the download, the C program) is not needed here.
fn example() -> (Site, Server) {
    let site = Site::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/site"), site.root());
    let server = Launch::new(&site).start();
    (site, server)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("examples/site") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "large.bin" || entry.file_name() == "hello-c" {
            continue;
        }
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("mkdir");
            copy(&source, &target);
        } else {
            let _quiet = support::no_forks();
            std::fs::copy(&source, &target).expect("copy");
        }
    }
}

fn browser() -> Option<PathBuf> {
    let found = BROWSERS.into_iter().find_map(on_path);
    if found.is_none() {
        skip("chromium is not installed");
    }
    found
}

/// The document after its scripts have run; virtual time passes only while nothing is loading.
#[track_caller]
fn dump(browser: &Path, url: &str) -> String {
    browse(browser, &["--virtual-time-budget=10000", "--dump-dom", url])
}

#[track_caller]
fn browse(browser: &Path, args: &[&str]) -> String {
    let profile = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"])
        .args(["--disable-dev-shm-usage", "--disable-extensions", "--disable-breakpad"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(args);
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
