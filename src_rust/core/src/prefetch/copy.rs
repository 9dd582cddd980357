//! Rows of equal width from anywhere to one place.

/// Rows from this width on are written past the caches: a batch of such rows fills them, and its consumer is another core.
pub const STREAM_FROM: usize = 64 * 1024;

/// The processor follows a row by itself, but only to the end of a page: memory is asked for in pieces of this.
const PIECE: usize = 4096;

/// How many pieces ahead of the copy memory is asked for: more where they are short.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn ahead(width: usize) -> usize {
    if width < 512 { 12 } else { 4 }
}

/// Copies one row after the other to `to`.
///
/// # Safety
/// Every source may be read for `width` bytes; `to` may be written for `sources.len() * width` bytes and overlaps none.
pub unsafe fn copy_rows(sources: &[*const u8], to: *mut u8, width: usize) {
    // SAFETY: the caller's promise, handed on with the width as a constant where a load and a store do.
    unsafe {
        match width {
            0 => {}
            1 => copy_sized::<1>(sources, to),
            2 => copy_sized::<2>(sources, to),
            4 => copy_sized::<4>(sources, to),
            8 => copy_sized::<8>(sources, to),
            16 => copy_sized::<16>(sources, to),
            _ if width >= STREAM_FROM => {
                for (at, &from) in sources.iter().enumerate() {
                    stream(from, to.add(at * width), width);
                }
            }
            _ => copy_some(sources, to, width),
        }
    }
}

/// # Safety
/// As [`copy_rows`] with `width == N`.
unsafe fn copy_sized<const N: usize>(sources: &[*const u8], to: *mut u8) {
    for (at, &from) in sources.iter().enumerate() {
        // SAFETY: `from` may be read and `to + at * N` written for N bytes; arrays of bytes need no alignment.
        unsafe { to.add(at * N).cast::<[u8; N]>().write(from.cast::<[u8; N]>().read()) };
    }
}

/// # Safety
/// As [`copy_rows`], and `width` is not zero.
unsafe fn copy_some(sources: &[*const u8], to: *mut u8, width: usize) {
    let pieces = width.div_ceil(PIECE);
    let (mut row, mut piece) = (ahead(width) / pieces, ahead(width) % pieces);
    for (at, &from) in sources.iter().enumerate() {
        let to = to.wrapping_add(at * width);
        for start in (0..width).step_by(PIECE) {
            if let Some(&soon) = sources.get(row) {
                prefetch(soon.wrapping_add(piece * PIECE), width - piece * PIECE);
            }
            piece += 1;
            if piece == pieces {
                (row, piece) = (row + 1, 0);
            }
            let len = PIECE.min(width - start);
            // SAFETY: `start + len <= width`, which the caller's promise covers for each row.
            unsafe { std::ptr::copy_nonoverlapping(from.add(start), to.add(start), len) };
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn ahead(_width: usize) -> usize {
    usize::MAX / 2
}

/// Asks for the first lines of a piece; the processor follows them.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn prefetch(row: *const u8, width: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let mut at = 0;
    while at < width.min(512) {
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(at).cast()) };
        at += 64;
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn prefetch(_row: *const u8, _width: usize) {}

/// Copies past the caches.
///
/// # Safety
/// `from` may be read and `to` written for `width` bytes, without overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn stream(from: *const u8, to: *mut u8, width: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    let head = to.align_offset(64).min(width);
    let lines = (width - head) / 64;
    // SAFETY: head + lines * 64 <= width, so all reads and writes are within what the caller promised. SSE2 belongs to
    // every x86_64, `_mm_stream_si128` gets addresses aligned to 64 bytes. The fence makes the writes visible before
    // whatever the caller does to publish them.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, head);
        let (mut source, mut target) = (from.add(head), to.add(head));
        for _ in 0..lines {
            let (s, t) = (source.cast::<__m128i>(), target.cast::<__m128i>());
            let (a, b, c, d) =
                (_mm_loadu_si128(s), _mm_loadu_si128(s.add(1)), _mm_loadu_si128(s.add(2)), _mm_loadu_si128(s.add(3)));
            _mm_stream_si128(t, a);
            _mm_stream_si128(t.add(1), b);
            _mm_stream_si128(t.add(2), c);
            _mm_stream_si128(t.add(3), d);
            source = source.add(64);
            target = target.add(64);
        }
        let done = head + lines * 64;
        std::ptr::copy_nonoverlapping(from.add(done), to.add(done), width - done);
        _mm_sfence();
    }
}

/// # Safety
/// `from` may be read and `to` written for `width` bytes, without overlap.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn stream(from: *const u8, to: *mut u8, width: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(from, to, width) };
}
