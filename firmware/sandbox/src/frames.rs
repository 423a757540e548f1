//! Frames on their way out, from more than one thread.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use baker_contract::sandbox::Frame;

use crate::{Fault, doing};

/// Bytes of a tree that travel in one frame.
const PART: usize = 1 << 20;

/// Where frames go.
#[derive(Clone)]
pub struct Frames(Arc<Mutex<Box<dyn Write + Send>>>);

impl Frames {
    /// Into `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }

    /// Sends one.
    pub fn send(&self, frame: &Frame) -> Result<(), Fault> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frame.write(&mut *out).map_err(doing("send a frame"))
    }
}

/// Sends what is written as parts of a tree; **what was written last is only sent by
/// [`TreeWriter::finish`]**.
pub struct TreeWriter {
    frames: Frames,
    part: Vec<u8>,
}

impl TreeWriter {
    /// Over these frames.
    pub fn new(frames: Frames) -> Self {
        let part = Vec::with_capacity(PART);
        Self { frames, part }
    }

    /// Sends the rest.
    pub fn finish(mut self) -> io::Result<()> {
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        self.frames
            .send(&Frame::Tree(part))
            .map_err(io::Error::other)
    }
}

impl Write for TreeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART - self.part.len());
        self.part.extend(&bytes[..count]);
        if self.part.len() == PART {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
