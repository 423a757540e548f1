//! The guest program: embedded for machines like this one, a file named by a variable for others.
//!
//! Takes the architecture of a recipe; gives the program's bytes, after a look at what they are.
//! Never runs it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use baker_contract::GUEST_MARK;
use baker_model::Digest;
use baker_model::lock::GuestLock;
use baker_model::recipe::Architecture;

use crate::exit::{Exit, Failure};

/// The static program for machines like this one: `/init` of every initrd, and the smoke probe.
/// No constant: the compiler would keep a copy of it for each place that uses it.
pub static EMBEDDED: &[u8] = include_bytes!(env!("BAKER_GUEST_PROGRAM"));

/// The machines that [`EMBEDDED`] is for.
pub const NATIVE: Architecture = if cfg!(target_arch = "aarch64") {
    Architecture::Arm64
} else {
    Architecture::Amd64
};

/// The program for `architecture`.
///
/// # Errors
/// It is for other machines than this one and nobody says where it is, or what is there is none.
pub fn program(architecture: Architecture) -> Result<Cow<'static, [u8]>, Failure> {
    if architecture == NATIVE {
        return Ok(Cow::Borrowed(EMBEDDED));
    }
    read(architecture, std::env::var_os(variable(architecture))).map(Cow::Owned)
}

/// What a lock says of [`program`].
///
/// # Errors
/// As there.
pub fn lock(architecture: Architecture) -> Result<GuestLock, Failure> {
    let program = program(architecture)?;
    Ok(GuestLock {
        size: program.len() as u64,
        sha256: Digest::of(&program),
    })
}

/// Names the file with the program for other machines.
const fn variable(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "BAKER_GUEST_AMD64",
        Architecture::Arm64 => "BAKER_GUEST_ARM64",
    }
}

/// How to get that file.
const fn mend(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => {
            "build baker on an amd64 machine and set BAKER_GUEST_AMD64 to the `baker-guest` in its \
             target folder"
        }
        Architecture::Arm64 => {
            "build it from baker's sources: export BAKER_GUEST_ARM64=$(scripts/guest-arm64)"
        }
    }
}

fn read(architecture: Architecture, named: Option<OsString>) -> Result<Vec<u8>, Failure> {
    let (name, variable) = (architecture.name(), variable(architecture));
    let missing = |failure: Failure| failure.help(mend(architecture));
    let Some(path) = named.filter(|path| !path.is_empty()) else {
        let problem = format!(
            "the recipe is for {name} machines, and this baker carries the guest program for {} \
             only",
            NATIVE.name()
        );
        return Err(missing(Failure::message(Exit::Environment, problem)));
    };
    let path = Path::new(&path);
    let bytes = fs::read(path).map_err(|error| {
        let doing = format!(
            "cannot read {}, which {variable} names as the guest program for {name}",
            path.display()
        );
        missing(Failure::new(Exit::Environment, error).context(doing))
    })?;
    match fault(&bytes, architecture) {
        None => Ok(bytes),
        Some(fault) => {
            let problem = format!(
                "{}, which {variable} names as the guest program for {name}, {fault}",
                path.display()
            );
            Err(missing(Failure::message(Exit::Environment, problem)))
        }
    }
}

/// Size of the header of a 64-bit ELF file, and of one program header.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Type of the program header that names a loader: there is none in static programs.
const PT_INTERP: u32 = 3;

/// What is wrong with a program, so far as its bytes say.
fn fault(bytes: &[u8], architecture: Architecture) -> Option<&'static str> {
    // `e_machine` of the ELF specification.
    let machine = match architecture {
        Architecture::Amd64 => 62,
        Architecture::Arm64 => 183,
    };
    // 64 bits (class 2), little-endian (data 1).
    let header = bytes.get(..ELF_HEADER);
    let Some(header) = header.filter(|header| header.starts_with(b"\x7fELF\x02\x01")) else {
        return Some("is no 64-bit ELF program");
    };
    if half(header, 18) != machine {
        return Some("is a program for other machines");
    }
    match has_loader(bytes, header) {
        None => return Some("is cut off"),
        Some(true) => return Some("is not static"),
        Some(false) => {}
    }
    let mark = GUEST_MARK.as_bytes();
    if !bytes.windows(mark.len()).any(|window| window == mark) {
        return Some("is no guest program of this baker's version");
    }
    None
}

/// True when a program header names a loader; none when they lie outside of the file.
fn has_loader(bytes: &[u8], header: &[u8]) -> Option<bool> {
    let offset = header.get(32..40)?.try_into().ok()?;
    let start = usize::try_from(u64::from_le_bytes(offset)).ok()?;
    let size = usize::from(half(header, 56)).checked_mul(PROGRAM_HEADER)?;
    let table = bytes.get(start..start.checked_add(size)?)?;
    let kinds = table.chunks_exact(PROGRAM_HEADER);
    let mut kinds = kinds.filter_map(|entry| entry.first_chunk());
    Some(kinds.any(|kind| u32::from_le_bytes(*kind) == PT_INTERP))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of the embedded program.
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

    /// What is wrong with the embedded program after this change.
    fn changed(change: impl Fn(&mut Vec<u8>)) -> Option<&'static str> {
        let mut bytes = EMBEDDED.to_vec();
        change(&mut bytes);
        fault(&bytes, NATIVE)
    }

    #[test]
    fn the_embedded_program_is_one() {
        assert_eq!(changed(|_| ()), None);
        assert_eq!(program(NATIVE).unwrap().len(), EMBEDDED.len());
        assert_eq!(lock(NATIVE).unwrap().sha256, Digest::of(EMBEDDED));
    }

    #[test]
    fn other_bytes_are_not() {
        let mark = GUEST_MARK.as_bytes();
        let found = |bytes: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
        let rows: [(Change, &str); 7] = [
            (&|bytes| bytes.clear(), "is no 64-bit ELF program"),
            (&|bytes| bytes.truncate(63), "is no 64-bit ELF program"),
            (&|bytes| bytes[4] = 1, "is no 64-bit ELF program"),
            (&|bytes| bytes[18] = 3, "is a program for other machines"),
            (&|bytes| bytes.truncate(64), "is cut off"),
            (
                &|bytes| {
                    let table = usize::from(half(bytes, 32));
                    bytes[table..table + 4].copy_from_slice(&PT_INTERP.to_le_bytes());
                },
                "is not static",
            ),
            (
                &|bytes| {
                    while let Some(at) = found(bytes) {
                        bytes[at + mark.len() - 1] = b'0';
                    }
                },
                "is no guest program of this baker's version",
            ),
        ];
        for (change, expected) in rows {
            assert_eq!(changed(change), Some(expected));
        }
    }

    #[test]
    fn a_missing_program_names_the_script() {
        for named in [
            None,
            Some(""),
            Some("/nonexistent/guest"),
            Some("/bin/true"),
        ] {
            let failure = read(Architecture::Arm64, named.map(OsString::from)).unwrap_err();
            assert_eq!(failure.exit, Exit::Environment);
            assert!(failure.help.unwrap().contains("scripts/guest-arm64"));
        }
    }
}
