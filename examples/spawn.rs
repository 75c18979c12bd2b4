//! Runs a command and shows what it says, all of it on one ring: `cargo run --example spawn -- /bin/sh -c 'cat; echo done' < file`.

use std::error::Error;
use std::io::{Read, Write};

use ucaffeine::rt::process::{self, Command, Spawner, Stdio};
use ucaffeine::rt::{self, join2};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let program = args.next().ok_or("usage: spawn PROGRAM [ARGUMENT]...")?;
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;

    // Before the runtime: the thread that starts children, so that the ring's thread never waits for an exec.
    let spawner = Spawner::start("spawner", &[])?;
    let code = rt::Builder::new().build()?.block_on(async {
        let (stdin, childs_stdin) = process::stdin_pipe()?;
        let (stdout, childs_stdout) = process::stdout_pipe()?;
        let mut command = Command::new(program);
        command.stdin(Stdio::Fd(childs_stdin)).stdout(Stdio::Fd(childs_stdout));
        for arg in args {
            command.arg(arg);
        }
        let child = spawner.spawn(command).await?;

        // Both at once: a program that answers while it is still asked must not block either.
        let feed = async move {
            // A program that does not want its input is no error; dropping the pipe ends it.
            let _ = stdin.write_all(input).await;
        };
        let show = async {
            while let Some(bytes) = stdout.read().await? {
                std::io::stdout().write_all(&bytes)?;
            }
            Ok::<_, std::io::Error>(())
        };
        join2(feed, show).await.1?;
        let exited = process::wait(child).await?;
        eprintln!("{}", exited.status);
        Ok::<_, Box<dyn Error>>(exited.status.code().unwrap_or(1))
    })?;
    std::process::exit(code)
}
