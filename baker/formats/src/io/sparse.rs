//! Copying without writing zeros.

use std::io::{self, Read, Seek, SeekFrom, Write};

/// Runs of zeros are skipped in units of this many bytes.
pub const SPARSE_BLOCK: usize = 4096;

/// Bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// Copies exactly `size` bytes to `out` from its byte `offset` on, seeking over blocks of zeros.
///
/// Gives the number of bytes really written. **What is skipped is not cleared**: the range of the
/// output must read as zeros, as that of a new file does.
///
/// # Errors
/// The input fails or ends early (`UnexpectedEof`), or the output fails.
pub fn copy_sparse(
    input: &mut dyn Read,
    size: u64,
    out: &mut (impl Write + Seek),
    offset: u64,
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let (mut done, mut written) = (0, 0);
    while done < size {
        let want = usize::try_from(size - done).unwrap_or(BUFFER).min(BUFFER);
        input.read_exact(&mut buffer[..want])?;
        written += write_sparse(&buffer[..want], out, offset + done)?;
        done += want as u64;
    }
    Ok(written)
}

/// Writes the blocks of `bytes` that are not all zeros; neighbours in one call.
pub(crate) fn write_sparse(
    bytes: &[u8],
    out: &mut (impl Write + Seek),
    offset: u64,
) -> io::Result<u64> {
    let mut written = 0;
    let mut position = 0;
    let mut runs = bytes.chunks(SPARSE_BLOCK).peekable();
    while let Some(block) = runs.next() {
        let start = position;
        position += block.len();
        if is_zero(block) {
            continue;
        }
        while let Some(block) = runs.next_if(|block| !is_zero(block)) {
            position += block.len();
        }
        out.seek(SeekFrom::Start(offset + start as u64))?;
        out.write_all(&bytes[start..position])?;
        written += (position - start) as u64;
    }
    Ok(written)
}

/// True when all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // In chunks, as the optimiser makes wide operations of a fold and none of a bytewise `all`.
    bytes
        .chunks(64)
        .all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_skipped_and_all_else_is_copied() {
        let mut data = vec![0; 3 * BUFFER + 100];
        for at in [0, 4095, 8192, BUFFER - 1, BUFFER, 3 * BUFFER + 99] {
            data[at] = 7;
        }
        let mut out = io::Cursor::new(vec![0; data.len() + 512]);
        let written = copy_sparse(&mut &data[..], data.len() as u64, &mut out, 512).unwrap();
        assert_eq!(written, 4 * 4096 + 100);
        assert_eq!(out.get_ref()[512..], data);
        let short = copy_sparse(&mut &data[..9], 10, &mut out, 0).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }
}
