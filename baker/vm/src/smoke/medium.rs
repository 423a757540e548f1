//! The bytes under test: their digest while the guest boots and after, and a private copy of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use baker_model::{Digest, Digester, Interrupt};

use super::{SmokeError, SmokeRequest};
use crate::machine::Boot;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// The comparison of the medium with its digest.
pub(super) struct MediumCheck<'a> {
    files: Vec<PathBuf>,
    expected: Digest,
    interrupt: &'a Interrupt,
    refuted: AtomicBool,
}

impl<'a> MediumCheck<'a> {
    pub(super) fn new(request: &SmokeRequest<'a>) -> Self {
        let files = match (&request.subject.medium, request.boot) {
            (Some(medium), _) => vec![medium.path.clone()],
            (None, Boot::Direct(direct)) => vec![direct.kernel.clone(), direct.initrd.clone()],
            (None, _) => Vec::new(),
        };
        Self {
            files,
            expected: request.subject.digest,
            interrupt: request.interrupt,
            refuted: AtomicBool::new(false),
        }
    }

    /// True once the medium is known to be another one.
    pub(super) fn is_refuted(&self) -> bool {
        self.refuted.load(Ordering::Relaxed)
    }

    /// Hashes while the guest boots.
    pub(super) fn run(&self) -> Result<Digest, SmokeError> {
        let result = self.hash().and_then(|found| {
            if found == self.expected {
                return Ok(found);
            }
            Err(SmokeError::DiskDiffers {
                path: self.files.first().cloned().unwrap_or_default(),
                expected: self.expected,
                found,
            })
        });
        self.refuted.store(result.is_err(), Ordering::Relaxed);
        result
    }

    /// The digest now.
    pub(super) fn hash(&self) -> Result<Digest, SmokeError> {
        let mut digester = Digester::new();
        let mut buffer = vec![0; BUFFER];
        for path in &self.files {
            let failed = |source| SmokeError::Disk {
                path: path.clone(),
                source,
            };
            let mut file = File::open(path).map_err(failed)?;
            loop {
                if self.interrupt.is_raised() {
                    return Err(SmokeError::Interrupted);
                }
                match file.read(&mut buffer).map_err(failed)? {
                    0 => break,
                    count => digester.update(&buffer[..count]),
                }
            }
        }
        Ok(digester.finish())
    }
}

/// Copies `from` to the new file `to`; runs of zeros become holes.
pub(super) fn copy(from: &Path, to: &Path, interrupt: &Interrupt) -> Result<(), SmokeError> {
    let unreadable = |source| SmokeError::Disk {
        path: from.to_owned(),
        source,
    };
    let unwritable = |source| SmokeError::Copy {
        path: to.to_owned(),
        source,
    };
    let mut source = File::open(from).map_err(unreadable)?;
    let target = OpenOptions::new().write(true).create_new(true).open(to);
    let mut target = target.map_err(unwritable)?;
    let mut buffer = vec![0; BUFFER];
    let mut length = 0;
    loop {
        if interrupt.is_raised() {
            return Err(SmokeError::Interrupted);
        }
        let count = source.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            return target.set_len(length).map_err(unwritable);
        }
        length += count as u64;
        write_or_skip(&mut target, &buffer[..count]).map_err(unwritable)?;
    }
}

fn write_or_skip(target: &mut File, bytes: &[u8]) -> io::Result<()> {
    if bytes.iter().all(|&byte| byte == 0) {
        let distance = i64::try_from(bytes.len()).expect("a buffer is far smaller");
        target.seek(SeekFrom::Current(distance)).map(drop)
    } else {
        target.write_all(bytes)
    }
}
