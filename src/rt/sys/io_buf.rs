//! Memory that an operation can own: its bytes stay in place while the value moves.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};

/// Owned bytes that can be lent to the kernel for reading.
///
/// # Safety
/// `bytes_ptr()..+bytes_len()` is initialised and stays at that address, unchanged, while the value is moved around
/// and until it is dropped or borrowed mutably.
pub unsafe trait IoBuf: 'static {
    /// Where the bytes start.
    fn bytes_ptr(&self) -> *const u8;
    /// How many there are.
    fn bytes_len(&self) -> usize;
}

/// Owned room that can be lent to the kernel for writing. What is read replaces the contents.
///
/// # Safety
/// As for [`IoBuf`], for `room_ptr()..+room_len()`; and `set_filled(n)` makes the first `n` bytes of it the contents.
pub unsafe trait IoBufMut: 'static {
    /// Where the room starts.
    fn room_ptr(&mut self) -> *mut u8;
    /// How much there is.
    fn room_len(&self) -> usize;
    /// Declares the first `count` bytes to be the contents.
    ///
    /// # Safety
    /// They are initialised, and `count <= room_len()`.
    unsafe fn set_filled(&mut self, count: usize);
}

/// The slice-like types: their bytes are behind a pointer, so moving the value does not move them.
macro_rules! io_buf {
    ($($type:ty),*) => {
        $(
            // SAFETY: the contents are on the heap or static, and the value is not touched while it is lent.
            unsafe impl IoBuf for $type {
                fn bytes_ptr(&self) -> *const u8 {
                    self.as_ptr()
                }
                fn bytes_len(&self) -> usize {
                    self.len()
                }
            }
        )*
    };
}
io_buf!(Vec<u8>, Box<[u8]>, Bytes, BytesMut, &'static [u8], &'static str, String);

// SAFETY: the capacity of a Vec is one heap allocation that stays put while the Vec is moved.
unsafe impl IoBufMut for Vec<u8> {
    fn room_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn room_len(&self) -> usize {
        self.capacity()
    }
    unsafe fn set_filled(&mut self, count: usize) {
        // SAFETY: the caller promises `count` initialised bytes within the capacity.
        unsafe { self.set_len(count) }
    }
}

// SAFETY: as for Vec.
unsafe impl IoBufMut for BytesMut {
    fn room_ptr(&mut self) -> *mut u8 {
        let whole: &mut [MaybeUninit<u8>] = {
            self.clear();
            self.spare_capacity_mut()
        };
        whole.as_mut_ptr().cast()
    }
    fn room_len(&self) -> usize {
        self.capacity()
    }
    unsafe fn set_filled(&mut self, count: usize) {
        // SAFETY: the caller promises `count` initialised bytes within the capacity.
        unsafe { self.set_len(count) }
    }
}
