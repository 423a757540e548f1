//! The program that is running, by its digest.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

use baker_model::{Digest, Digester};

/// Where the kernel shows the running program, also when its file was replaced since.
pub const PATH: &str = "/proc/self/exe";

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// The digest of baker's own program; none where the system does not show it.
pub fn digest() -> Option<Digest> {
    static DIGEST: OnceLock<Option<Digest>> = OnceLock::new();
    *DIGEST.get_or_init(read)
}

fn read() -> Option<Digest> {
    let mut file = File::open(PATH).ok()?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(digester.finish()),
            count => digester.update(&buffer[..count]),
        }
    }
}
