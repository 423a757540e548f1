//! Every format read back by QEMU's own tool, and the same bytes from any number of threads.

use std::fs;
use std::io::Cursor;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use baker_model::{Digest, Interrupt};

use super::qcow2::Compression;
use super::vhd::Variant;
use super::*;
use crate::judge::{judge, run};
use crate::medium::{self, Kind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Qcow2,
    Qcow2Zstd,
    Vmdk,
    VhdFixed,
    VhdDynamic,
}

const ALL: [Format; 5] = [
    Format::Qcow2,
    Format::Qcow2Zstd,
    Format::Vmdk,
    Format::VhdFixed,
    Format::VhdDynamic,
];

impl Format {
    fn kind(self) -> Kind {
        match self {
            Self::Qcow2 | Self::Qcow2Zstd => Kind::Qcow2,
            Self::Vmdk => Kind::Vmdk,
            Self::VhdFixed | Self::VhdDynamic => Kind::Vhd,
        }
    }

    /// What qemu-img calls it.
    fn driver(self) -> &'static str {
        match self.kind() {
            Kind::Vhd => "vpc",
            kind => kind.name(),
        }
    }
}

/// The image of `disk`, from an output that is full of what a new file reads as.
fn made(disk: &Vec<u8>, format: Format, threads: usize) -> Result<Vec<u8>, ImageError> {
    let conversion = Conversion {
        disk,
        size: disk.len() as u64,
        threads: NonZeroUsize::new(threads).unwrap(),
        interrupt: &Interrupt::new(),
    };
    let mut out = Cursor::new(Vec::new());
    let size = write(&conversion, format, &mut out)?;
    assert_eq!(out.get_ref().len() as u64, size, "{format:?}");
    Ok(out.into_inner())
}

fn write(
    conversion: &Conversion<'_>,
    format: Format,
    out: &mut (impl io::Write + io::Seek),
) -> Result<u64, ImageError> {
    let vhd = vhd::Identity {
        uuid: [7; 16],
        time: 1_700_000_000,
    };
    let vmdk = vmdk::Identity {
        name: "disk.vmdk",
        content: 0x1234_5678,
    };
    match format {
        Format::Qcow2 => qcow2::write(conversion, Compression::Zlib, out),
        Format::Qcow2Zstd => qcow2::write(conversion, Compression::Zstd, out),
        Format::Vmdk => vmdk::write(conversion, vmdk, out),
        Format::VhdFixed => vhd::write(conversion, Variant::Fixed, vhd, out),
        Format::VhdDynamic => vhd::write(conversion, Variant::Dynamic, vhd, out),
    }
}

/// Bytes that look random and do not shrink.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// A disk with text, noise, zeros, both mixed within a cluster, and something in the last sector.
fn disk(size: usize) -> Vec<u8> {
    let mut disk = vec![0; size];
    let text: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| n.to_string().into_bytes())
        .collect();
    let mut put = |at: usize, bytes: &[u8]| {
        let end = (at + bytes.len()).min(size);
        if at < end {
            disk[at..end].copy_from_slice(&bytes[..end - at]);
        }
    };
    put(0, &noise(512, 1));
    put(1 << 20, &text);
    for at in 0..40_usize {
        // Every other cluster shrinks, so that both kinds alternate.
        let bytes = if at % 2 == 0 {
            noise(65_536, 3)
        } else {
            text[at * 100..][..65_536].to_vec()
        };
        put((5 << 20) + at * 65_536, &bytes);
    }
    put((9 << 20) + 12_345, &noise(100_000, 5));
    put((40 << 20) + 7, &text[..777]);
    put(size.saturating_sub(512), &noise(512, 9));
    disk
}

#[test]
fn threads_never_change_a_byte() {
    let disk = disk(45 << 20);
    for format in ALL {
        let one = made(&disk, format, 1).unwrap();
        for threads in [2, 5] {
            assert!(made(&disk, format, threads).unwrap() == one, "{format:?}");
        }
        let told = medium::identify(&mut Cursor::new(&one)).unwrap();
        assert_eq!(told, format.kind(), "{format:?}");
    }
}

#[test]
fn the_bytes_are_pinned() {
    let disk = disk(45 << 20);
    let digests = ALL.map(|format| {
        let image = made(&disk, format, 2).unwrap();
        format!("{format:?} {} {}", image.len(), Digest::of(&image).short())
    });
    let pinned = [
        "Qcow2 3080192 548ee950367f",
        "Qcow2Zstd 2490368 90685616a4ec",
        "Vmdk 2760192 a75bc1cd7f7a",
        "VhdFixed 47186432 2da7874dccb7",
        "VhdDynamic 14686208 f4df2ce83123",
    ];
    assert_eq!(digests, pinned);
}

/// Sizes that end in the middle of clusters, grains and blocks, and one beyond an L2 table.
#[test]
fn qemu_reads_back_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    for size in [512, 1 << 20, (45 << 20) + 1536] {
        let disk = disk(size);
        fs::write(&raw, &disk).unwrap();
        for format in ALL {
            // A disk of whole grains only, see the module.
            let expected = match format {
                Format::Vmdk => disk.len().next_multiple_of(65_536),
                _ => disk.len(),
            };
            let path = folder.path().join("image");
            fs::write(&path, made(&disk, format, 2).unwrap()).unwrap();
            if !judged(&path, &raw, format, expected) {
                return;
            }
        }
    }
}

/// False when there is no judge.
fn judged(image: &Path, raw: &Path, format: Format, size: usize) -> bool {
    let Some(mut tool) = judge("qemu-img") else {
        return false;
    };
    let driver = format.driver();
    if format.kind() != Kind::Vhd {
        let (clean, said) = run(tool.args(["check", "-f", driver]).arg(image));
        assert!(clean && said.contains("No errors"), "{format:?}: {said}");
    }
    let mut tool = judge("qemu-img").unwrap();
    let (_, said) = run(tool.args(["info", "-f", driver]).arg(image));
    let virtual_size = format!("({size} bytes)");
    assert!(said.contains(&virtual_size), "{format:?}: {said}");
    let mut tool = judge("qemu-img").unwrap();
    let (equal, said) = run(tool
        .args(["compare", "-f", driver, "-F", "raw"])
        .args([image, raw]));
    assert!(equal, "{format:?}: {said}");
    true
}

/// A writer of a few structures with a gap of many L2 tables, read back.
#[test]
fn a_large_and_empty_disk_stays_small() {
    struct Vast;
    const SIZE: u64 = 3 << 30;
    impl Source for Vast {
        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            buffer.fill(0);
            // One byte at the start, one in the last block.
            for at in [0, SIZE - 1] {
                if (offset..offset + buffer.len() as u64).contains(&at) {
                    buffer[usize::try_from(at - offset).unwrap()] = 1;
                }
            }
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let conversion = Conversion {
        disk: &Vast,
        size: SIZE,
        threads: NonZeroUsize::new(2).unwrap(),
        interrupt: &Interrupt::new(),
    };
    let raw = folder.path().join("raw");
    let file = fs::File::create(&raw).unwrap();
    file.set_len(SIZE).unwrap();
    for at in [0, SIZE - 1] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1], at).unwrap();
    }
    for format in [Format::Qcow2, Format::Vmdk, Format::VhdDynamic] {
        let path: PathBuf = folder.path().join("image");
        let mut out = fs::File::create(&path).unwrap();
        let size = write(&conversion, format, &mut out).unwrap();
        assert!(size < 5 << 20, "{format:?}: {size} bytes");
        if !judged(&path, &raw, format, usize::try_from(SIZE).unwrap()) {
            return;
        }
    }
}

#[test]
fn what_no_format_holds_is_refused() {
    let conversion = |size| Conversion {
        disk: &EMPTY,
        size,
        threads: NonZeroUsize::MIN,
        interrupt: &STEADY,
    };
    static EMPTY: Vec<u8> = Vec::new();
    static STEADY: std::sync::LazyLock<Interrupt> = std::sync::LazyLock::new(Interrupt::new);
    for format in ALL {
        for (size, words) in [
            (0, "no whole number of sectors"),
            (513, "no whole number of sectors"),
            (1 << 62, "does not fit into"),
            (1 << 20, "cannot read the disk at byte 0"),
        ] {
            let refused = write(&conversion(size), format, &mut Cursor::new(Vec::new()));
            let said = refused.unwrap_err().to_string();
            assert!(said.contains(words), "{format:?}: {said}");
        }
    }
    STEADY.raise();
    for format in ALL {
        let stopped = write(&conversion(512), format, &mut Cursor::new(Vec::new()));
        assert!(
            matches!(stopped, Err(ImageError::Interrupted)),
            "{format:?}"
        );
    }
}
