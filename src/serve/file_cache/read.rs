//! A small file's bytes.

use std::io;

use crate::rt::fs::File;

/// The first `len` bytes; fewer where the file has become shorter.
pub(super) async fn read_whole(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut whole = Vec::with_capacity(len);
    while whole.len() < len {
        // The usual file comes in one read; what is left of an unusual one is read beside and appended.
        let room = if whole.is_empty() { std::mem::take(&mut whole) } else { Vec::with_capacity(len - whole.len()) };
        let offset = if room.capacity() == len { 0 } else { whole.len() as u64 };
        let (count, part) = file.read_at(room, offset).await;
        if count? == 0 {
            break;
        }
        if offset == 0 { whole = part } else { whole.extend_from_slice(&part) }
    }
    whole.truncate(len);
    Ok(whole)
}
