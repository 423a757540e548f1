//! The program that is running, by its digest.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use baker_model::{Digest, Digester};

/// Where the kernel shows the running program, also when its file was replaced since.
pub const PATH: &str = "/proc/self/exe";

/// The digest of baker's own program; none where the system does not show it.
pub fn digest() -> Option<Digest> {
    static DIGEST: OnceLock<Option<Digest>> = OnceLock::new();
    *DIGEST.get_or_init(|| digest_of(Path::new(PATH)).ok())
}

/// The digest of a file.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut digester = Digester::new();
    io::copy(&mut File::open(path)?, &mut digester)?;
    Ok(digester.finish())
}

/// The first process of the sandbox in which packages' scripts run; for machines like this one.
pub static SANDBOX: &[u8] = include_bytes!(env!("BAKER_SANDBOX_PROGRAM"));

/// The library that keeps the clock still there.
pub static CLOCK: &[u8] = include_bytes!(env!("BAKER_CLOCK_LIBRARY"));

/// The first process of a neighbour of a machine under test; for machines like this one.
pub static NEIGHBOUR: &[u8] = include_bytes!(env!("BAKER_NEIGHBOUR_PROGRAM"));
