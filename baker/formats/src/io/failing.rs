//! Every writer on an output that fails after some bytes, and that takes only a few at a time.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use baker_model::layout::{Layout, Partition, Role, partition_type};

use crate::{cpio, fat, gpt, verity};

const SIZE: u64 = 12 << 20;

/// Outputs of different room that each writer meets.
const STEPS: usize = 12;

/// A disk that is full once `left` bytes are written.
struct Failing {
    inner: Cursor<Vec<u8>>,
    left: usize,
}

impl Failing {
    fn new(left: usize) -> Self {
        Self {
            inner: Cursor::new(vec![0; usize::try_from(SIZE).unwrap()]),
            left,
        }
    }
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Short writes, of a length that fits no structure.
        let length = bytes.len().min(self.left).min(4_097);
        if length == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.left -= length;
        self.inner.write(&bytes[..length])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Failing {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = bytes.len().min(4_097);
        self.inner.read(&mut bytes[..length])
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// True when the error or one below it says that the disk is full.
fn disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
    let mut this = Some(error);
    while let Some(error) = this {
        let text = error.to_string();
        if error.downcast_ref().is_some_and(full) || text.contains("no storage space") {
            return true;
        }
        this = error.source();
    }
    false
}

/// Runs a writer with ever more room until it succeeds: each failure before must name the disk.
fn sweep<E: std::error::Error + 'static>(mut write: impl FnMut(&mut Failing) -> Result<(), E>) {
    let mut plenty = Failing::new(usize::MAX);
    write(&mut plenty).unwrap();
    let needed = usize::MAX - plenty.left;
    for step in 0..STEPS {
        let mut out = Failing::new(needed * step / STEPS);
        let error = write(&mut out).unwrap_err();
        assert!(disk_full(&error), "{step}: {error:?}");
    }
    let mut out = Failing::new(needed);
    write(&mut out).unwrap();
    assert!(out.inner == plenty.inner);
}

#[test]
fn a_hash_tree_on_a_full_disk() {
    let data = vec![7_u8; 300 * 4096];
    let options = verity::Options {
        salt: [1; 32],
        uuid: [2; 16],
        threads: 2,
    };
    sweep(|out| verity::format(&mut &data[..], data.len() as u64, &options, out).map(drop));
}

#[test]
fn an_archive_on_a_full_disk() {
    sweep(|out| {
        let mut writer = cpio::Writer::new(out);
        let kind = cpio::Kind::File {
            size: 100_000,
            data: &mut io::repeat(7),
        };
        writer.append("a", cpio::Metadata::default(), kind)?;
        writer.finish().map(drop)
    });
}

#[test]
fn a_volume_on_a_full_disk() {
    let volume = fat::Volume {
        offset: 0,
        size: SIZE,
        id: 1,
        label: "ESP",
        time: 0,
    };
    sweep(|out| {
        let mut data = io::repeat(7);
        let mut files = [fat::File {
            path: "a/b",
            size: 9_500_000,
            data: &mut data,
        }];
        fat::write(out, &volume, &mut files).map(drop)
    });
}

#[test]
fn a_partition_table_on_a_full_disk() {
    let partitions = vec![Partition {
        role: Role::Data,
        name: "data".into(),
        type_uuid: partition_type::VAR.into(),
        uuid: [3; 16],
        offset: 1 << 20,
        size: 1 << 20,
        attributes: 0,
    }];
    let layout = Layout {
        disk_uuid: [4; 16],
        size: SIZE,
        partitions,
    };
    sweep(|out| gpt::write(&layout, out));
}
