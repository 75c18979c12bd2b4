//! The folder that every server of a comparison serves: files of known sizes, and programs without a C library, which cost
//! nothing but their own start.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder for one comparison; it vanishes with this.
#[derive(Debug)]
pub struct Workshop {
    folder: PathBuf,
    /// Why there are no programs, if there are none.
    pub no_programs: Option<String>,
}

/// Files, and how long they are.
const FILES: &[(&str, usize)] = &[("1k.html", 1 << 10), ("100k.bin", 100 << 10), ("10m.bin", 10 << 20)];

/// Folders that have them: the second is what `epoll-aio` reads by AIO.
const FOLDERS: &[&str] = &["", "dynamic"];

/// Programs, and what each is compiled with besides.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("hello", &[]),
    ("nph-hello", &["-DNPH"]),
    ("1m", &["-DBODY_BYTES=1048576"]),
    ("nph-1m", &["-DBODY_BYTES=1048576", "-DNPH"]),
];

const BARE_H: &str = include_str!("../../../scripts/cgi/bare.h");
const BENCH_C: &str = include_str!("../../../scripts/cgi/bench.c");

impl Workshop {
    /// Makes it, below the folder for temporary files.
    ///
    /// # Errors
    /// A line that says what could not be made.
    pub fn make() -> Result<Workshop, String> {
        let folder = std::env::temp_dir().join(format!("loadgen-bench-{}", std::process::id()));
        let failed = |error: io::Error| format!("{} cannot be made: {error}", folder.display());
        // Exclusively: a folder that is there already is somebody else's.
        fs::create_dir(&folder).map_err(failed)?;
        let mut made = Workshop { folder: folder.clone(), no_programs: None };
        made.files().map_err(failed)?;
        made.no_programs = made.programs().err();
        Ok(made)
    }

    /// What is served.
    #[must_use]
    pub fn site(&self) -> PathBuf {
        self.folder.join("site")
    }

    /// Where servers put what they need.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn files(&self) -> io::Result<()> {
        // The workers of some servers run as another user.
        fs::set_permissions(&self.folder, Permissions::from_mode(0o755))?;
        for folder in FOLDERS {
            let folder = self.site().join(folder);
            fs::create_dir_all(&folder)?;
            for (name, bytes) in FILES {
                let mut body = vec![b'x'; bytes - 1];
                body.push(b'\n');
                fs::write(folder.join(name), body)?;
            }
        }
        Ok(())
    }

    fn programs(&self) -> Result<(), String> {
        let (source, folder) = (self.folder.join("source"), self.site().join("cgi-bin"));
        let made = fs::create_dir(&source)
            .and_then(|()| fs::create_dir(&folder))
            .and_then(|()| fs::write(source.join("bare.h"), BARE_H))
            .and_then(|()| fs::write(source.join("bench.c"), BENCH_C));
        made.map_err(|error| format!("the programs cannot be made: {error}"))?;
        for (name, flags) in PROGRAMS {
            let mut compiler = Command::new("cc");
            compiler.args(["-O2", "-static", "-nostdlib", "-fno-stack-protector", "-o"]).arg(folder.join(name));
            compiler.args(*flags).arg(source.join("bench.c")).stdin(Stdio::null());
            let output = compiler.output().map_err(|error| format!("the programs cannot be compiled: cc: {error}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
                return Err(format!("the programs cannot be compiled: {said}"));
            }
        }
        Ok(())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed is left where temporary files are.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
