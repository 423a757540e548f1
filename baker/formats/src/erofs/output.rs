//! The image while it is written: counts bytes, pads blocks, names offsets in errors.

use std::io::{Seek, SeekFrom, Write};

use baker_model::tree::TreePath;

use super::error::Error;
use super::format::BLOCK;

/// A writer that knows where it is.
pub struct Output<'a, W> {
    inner: &'a mut W,
    at: u64,
}

impl<'a, W: Write> Output<'a, W> {
    /// Starts at byte 0 of `inner`, which must be positioned there.
    pub fn new(inner: &'a mut W) -> Self {
        Self { inner, at: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The output refuses them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let offset = self.at;
        self.inner
            .write_all(bytes)
            .map_err(|source| Error::Output { offset, source })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Appends zeros up to byte `to`, which lies less than a few blocks ahead.
    ///
    /// # Errors
    /// The output refuses them.
    pub fn zeros_to(&mut self, to: u64) -> Result<(), Error> {
        while self.at < to {
            let missing = usize::try_from(to - self.at).unwrap_or(BLOCK).min(BLOCK);
            self.write(&[0; BLOCK][..missing])?;
        }
        Ok(())
    }

    /// Appends zeros up to the next block.
    ///
    /// # Errors
    /// The output refuses them.
    pub fn align(&mut self) -> Result<(), Error> {
        self.zeros_to(self.at.next_multiple_of(BLOCK as u64))
    }

    /// The number of the block that starts here; `path` is what is being written.
    ///
    /// # Errors
    /// The number does not fit into 32 bits.
    pub fn block(&self, path: &TreePath) -> Result<u32, Error> {
        let limit = u64::from(u32::MAX);
        match u32::try_from(self.at / BLOCK as u64) {
            Ok(block) if block < u32::MAX => Ok(block),
            _ => Err(Error::TooLarge {
                path: path.clone(),
                limit,
            }),
        }
    }
}

impl<W: Write + Seek> Output<'_, W> {
    /// Overwrites the first bytes of the image and flushes it.
    ///
    /// # Errors
    /// The output refuses it.
    pub fn finish(self, first: &[u8]) -> Result<(), Error> {
        let name = |source| Error::Output { offset: 0, source };
        self.inner.seek(SeekFrom::Start(0)).map_err(name)?;
        self.inner.write_all(first).map_err(name)?;
        self.inner.seek(SeekFrom::Start(self.at)).map_err(name)?;
        self.inner.flush().map_err(name)
    }
}
