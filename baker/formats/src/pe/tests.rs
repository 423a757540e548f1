//! Sections appended to a small program made here; judged by `objdump`.

use super::image::optional;
use super::*;
use crate::judge::{judge, run};
use proptest::prelude::*;

/// Offsets of [`stub`]: COFF header, optional header, section table.
const COFF: usize = 0x44;
const OPTIONAL: usize = COFF + 20;
const TABLE: usize = OPTIONAL + 240;

/// A program with one section, `.text` at 0x1000, headers of 1 KiB.
pub(super) fn stub() -> Vec<u8> {
    let mut bytes = vec![0; 0x600];
    let mut put = |offset: usize, value: &[u8]| {
        bytes[offset..offset + value.len()].copy_from_slice(value);
    };
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0");
    put(COFF, &0x8664_u16.to_le_bytes());
    put(COFF + 2, &1_u16.to_le_bytes());
    put(COFF + 16, &240_u16.to_le_bytes());
    put(COFF + 18, &0x206_u16.to_le_bytes());
    put(OPTIONAL, &0x20b_u16.to_le_bytes());
    put(
        OPTIONAL + optional::SECTION_ALIGNMENT,
        &0x1000_u32.to_le_bytes(),
    );
    put(
        OPTIONAL + optional::FILE_ALIGNMENT,
        &0x200_u32.to_le_bytes(),
    );
    put(
        OPTIONAL + optional::SIZE_OF_IMAGE,
        &0x2000_u32.to_le_bytes(),
    );
    put(
        OPTIONAL + optional::SIZE_OF_HEADERS,
        &0x400_u32.to_le_bytes(),
    );
    put(OPTIONAL + 68, &10_u16.to_le_bytes());
    put(
        OPTIONAL + optional::NUMBER_OF_DIRECTORIES,
        &16_u32.to_le_bytes(),
    );
    put(TABLE, b".text");
    put(TABLE + 8, &0x123_u32.to_le_bytes());
    put(TABLE + 12, &0x1000_u32.to_le_bytes());
    put(TABLE + 16, &0x200_u32.to_le_bytes());
    put(TABLE + 20, &0x400_u32.to_le_bytes());
    put(TABLE + 36, &0x6000_0020_u32.to_le_bytes());
    put(0x400, &[0xc3; 0x200]);
    bytes
}

#[test]
fn appended_sections_lie_aligned_and_in_order() {
    let linux = NewSection {
        virtual_size: 0x5000,
        ..NewSection::new(".linux", &[2; 0x1001])
    };
    let new = [NewSection::new(".cmdline", b"quiet"), linux];
    let bytes = append(&stub(), &new).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let rows: Vec<_> = image
        .sections
        .iter()
        .map(|section| {
            let Section {
                virtual_address,
                virtual_size,
                raw_offset,
                raw_size,
                ..
            } = section;
            (
                &*section.name,
                *virtual_address,
                *virtual_size,
                *raw_offset,
                *raw_size,
            )
        })
        .collect();
    let expected = [
        (".text", 0x1000, 0x123, 0x400, 0x200),
        (".cmdline", 0x2000, 5, 0x600, 0x200),
        (".linux", 0x3000, 0x5000, 0x800, 0x1200),
    ];
    assert_eq!(rows, expected);
    assert_eq!(image.size_of_image, 0x8000);
    assert_eq!(image.section_bytes(&bytes, ".cmdline"), Some(&b"quiet"[..]));
    let sum = bytes[OPTIONAL + 64..OPTIONAL + 68].try_into().unwrap();
    assert_eq!(u32::from_le_bytes(sum), image.checksum(&bytes));

    let Some(mut objdump) = judge("objdump") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.efi");
    std::fs::write(&path, &bytes).unwrap();
    let (good, said) = run(objdump.args(["-h", "-p"]).arg(&path));
    assert!(good, "{said}");
    let row = said
        .lines()
        .find(|line| line.contains(".cmdline"))
        .expect(&said);
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        words[1..6],
        [
            ".cmdline",
            "00000005",
            "0000000000002000",
            "0000000000002000",
            "00000600"
        ]
    );
    assert!(said.contains("SizeOfImage\t\t00008000"), "{said}");
}

#[test]
fn a_signature_of_the_stub_is_removed() {
    let mut signed = stub();
    let entry = OPTIONAL + optional::CERTIFICATES;
    signed[entry..entry + 4].copy_from_slice(&0x600_u32.to_le_bytes());
    signed[entry + 4..entry + 8].copy_from_slice(&16_u32.to_le_bytes());
    signed.extend_from_slice(&[9; 16]);
    assert_eq!(
        Image::parse(&signed).unwrap().certificates,
        Some((0x600, 16))
    );
    let new = [NewSection::new(".osrel", b"ID=a\n")];
    assert_eq!(append(&signed, &new), append(&stub(), &new));
    signed.extend_from_slice(&[0; 8]);
    assert!(matches!(append(&signed, &new), Err(PeError::Format { .. })));
}

#[test]
fn what_does_not_fit_is_refused() {
    let many: Vec<_> = (0..20).map(|index| format!(".s{index}")).collect();
    let many: Vec<_> = many
        .iter()
        .map(|name| NewSection::new(name, b"x"))
        .collect();
    let room = (0x400 - TABLE - 40) / 40;
    assert_eq!(
        append(&stub(), &many),
        Err(PeError::HeaderRoom { room, wanted: 20 })
    );
    assert!(append(&stub(), &many[..room]).is_ok());
    for name in ["", ".too-long", ".text"] {
        let error = append(&stub(), &[NewSection::new(name, b"")]).unwrap_err();
        assert!(matches!(error, PeError::Section { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_headers_never_panic(
        changes in prop::collection::vec((0_usize..0x400, any::<u8>()), 0..8),
        end in 0_usize..=0x600,
    ) {
        let mut bytes = stub();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(end);
        if let Ok(bytes) = append(&bytes, &[NewSection::new(".new", b"abc")]) {
            Image::parse(&bytes).unwrap();
        }
    }
}
