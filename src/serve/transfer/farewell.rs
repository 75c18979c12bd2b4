//! The end of a connection.

use super::flush;
use crate::rt::time;
use crate::serve::input::Input;
use crate::serve::link::{Link, Transport, by};
use crate::serve::worker::Worker;

/// The largest reply that is left to the kernel as a whole: its progress cannot be seen, so it has to be so small that a
/// client which is only slow has taken it long before the deadline.
const LAST_BYTES_MAX: usize = 8 << 10;

/// Sends what has gathered and closes: the last data and the FIN leave in one segment.
pub(in crate::serve) async fn send_last(mut link: Link, worker: &Worker) {
    if link.out.len() > LAST_BYTES_MAX {
        // Whoever is gone or too slow is cut by the drop, as everybody is closed by it.
        let _ = flush(&mut link, worker).await;
        return;
    }
    let Link { transport: Transport::Plain(stream), mut conn, out, mut timer, .. } = link;
    conn.sending(worker.now_ms());
    let until = conn.reply_until(&worker.limits());
    if let Ok((sent, buffer)) = by(&mut timer, until, stream.write_last(out)).await {
        let count = sent.unwrap_or(0) as u64;
        conn.sent(worker.now_ms(), count);
        worker.metrics.sent_bytes.add(count);
        worker.recycle(buffer);
    }
}

/// How long a connection that is closing waits for its client to finish, and how much it reads from it meanwhile.
const LINGER_MS_MAX: u64 = 2_000;
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Closes our side and reads what is still coming, for a while: a plain close would answer it with a reset, which
/// destroys the reply on its way (RFC 9112 section 9.6).
pub(in crate::serve) async fn linger(link: &mut Link, worker: &Worker) {
    if flush(link, worker).await.is_err() {
        return;
    }
    if let Err(error) = link.transport.stream().shutdown(std::net::Shutdown::Write).await
        // Out of descriptors, our side stays open, and the client has only the reply's word that it is the last.
        && !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    {
        return;
    }
    let until = time::Instant::now().as_millis() + LINGER_MS_MAX;
    let mut bytes = link.input.unread().len();
    link.input = Input::Empty;
    while bytes < LINGER_BYTES_MAX {
        match link.recv(until).await {
            Ok(Ok(Some(received))) => bytes += received.len(),
            _ => return,
        }
    }
}
