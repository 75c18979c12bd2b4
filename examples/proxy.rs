//! A TCP proxy, one core: `cargo run --release --example proxy -- 127.0.0.1:7001 127.0.0.1:7000`.
//! Bytes that arrive on either side go out on the other; an end of input is passed on, and the other direction lives.

use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr};

use ucaffeine::rt::net::{ReadHalf, TcpListener, TcpStream, WriteHalf};
use ucaffeine::rt::{self, join2};

#[allow(dead_code, reason = "the proxy's test includes this file and calls `serve`")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut addr = |default: &str| args.next().unwrap_or_else(|| default.to_owned()).parse();
    let (front, back) = (addr("127.0.0.1:7001")?, addr("127.0.0.1:7000")?);
    rt::Builder::new().build()?.block_on(async {
        let listener = TcpListener::bind(front)?;
        println!("{} -> {back}", listener.local_addr()?);
        Ok(serve(listener, back).await?)
    })
}

/// Accepts for ever.
pub async fn serve(listener: TcpListener, back: SocketAddr) -> io::Result<()> {
    loop {
        let client = listener.accept().await?;
        rt::spawn_detached(async move {
            if let Err(error) = relay(client, back).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn relay(mut client: TcpStream, back: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(back).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let (up, down) = join2(pump(from_client, to_server), pump(from_server, to_client)).await;
    up.and(down)
}

/// One direction, until its end. A slow reader stops it here, and the kernel then slows the sender down.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let moved = async {
        while let Some(data) = from.recv().await? {
            to.write_all(data.to_vec()).await.0?;
        }
        Ok(())
    };
    // Passed on after an error, too, so that the other direction comes to its end.
    let moved = moved.await;
    to.shutdown(Shutdown::Write).await.and(moved)
}
