//! A TCP echo server, one core: `cargo run --release --example echo -- 127.0.0.1:7000`, then `nc 127.0.0.1 7000`.

use std::error::Error;

use ucaffeine::rt::{self, net};

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned()).parse()?;
    let runtime = rt::Builder::new().build()?;
    runtime.block_on(async {
        let listener = net::TcpListener::bind(addr)?;
        println!("echo on {}", listener.local_addr()?);
        loop {
            rt::spawn_detached(echo(listener.accept().await?));
        }
    })
}

async fn echo(stream: net::TcpStream) {
    // An idle connection holds no buffer; `data` is a view into the core's pool until it is dropped.
    while let Ok(Some(data)) = stream.recv().await {
        if stream.write_all(data.to_vec()).await.0.is_err() {
            return;
        }
    }
}
