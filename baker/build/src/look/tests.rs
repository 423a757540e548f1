//! One small system, in several wrappings.

use super::fixture::{image, part, system};
use super::*;

/// The image as the only partition behind an MBR, one of them logical.
fn with_mbr(image: &[u8], logical: bool) -> Vec<u8> {
    let mut disk = vec![0; (1 << 20) + image.len()];
    let sectors = u32::try_from(image.len() / 512).unwrap().to_le_bytes();
    let mut entry = |record: usize, kind: u8, first: u32, sectors: [u8; 4]| {
        disk[record + 446 + 4] = kind;
        disk[record + 446 + 8..record + 446 + 12].copy_from_slice(&first.to_le_bytes());
        disk[record + 446 + 12..record + 446 + 16].copy_from_slice(&sectors);
        disk[record + 510..record + 512].copy_from_slice(b"\x55\xaa");
    };
    if logical {
        entry(0, 0x05, 1024, sectors);
        entry(1024 * 512, 0x83, 1024, sectors);
    } else {
        entry(0, 0x83, 2048, sectors);
    }
    disk[1 << 20..].copy_from_slice(image);
    disk
}

fn surveyed(bytes: Vec<u8>) -> (Look, Survey, Owners) {
    let look = look(part(bytes)).unwrap();
    let (survey, owners) = survey(&look).unwrap().unwrap();
    (look, survey, owners)
}

#[test]
fn a_root_is_found_with_and_without_a_table() {
    let image = image(&system());
    let rows = [
        (image.clone(), "none", 1),
        (with_mbr(&image, false), "mbr", 1),
        (with_mbr(&image, true), "mbr", 5),
    ];
    for (bytes, table, number) in rows {
        let (look, survey, _) = surveyed(bytes);
        assert_eq!((look.disk.table, survey.partition), (table, number));
        assert_eq!(survey.os_release["PRETTY_NAME"], "Tiny 1");
        assert_eq!(look.disk.partitions[0].content, "erofs");
    }
}

#[test]
fn packages_have_the_files_that_their_lists_name_through_links() {
    let (_, survey, owners) = surveyed(image(&system()));
    let packages: Vec<_> = survey
        .packages
        .iter()
        .map(|package| {
            (
                package.name.as_str(),
                package.version.as_str(),
                package.size,
            )
        })
        .collect();
    assert_eq!(packages, [("su", "2", 10 + 14), ("tool", "1.0-1", 12)]);
    let path = |text| TreePath::new(text).unwrap();
    assert_eq!(owners.of(&path("usr/bin/tool")), Some("tool"));
    assert_eq!(owners.of(&path("usr/bin/stray")), None);
    assert!(survey.unowned_files >= 4 && survey.unowned_size > 0);
}

#[test]
fn facts_are_read_from_the_root() {
    let (_, survey, _) = surveyed(image(&system()));
    let units: Vec<_> = survey
        .units
        .iter()
        .map(|unit| (unit.name.as_str(), unit.how, unit.vendor))
        .collect();
    let expected = [
        ("a.service", "wants", false),
        ("b.service", "masked", false),
        ("c.service", "wants", true),
    ];
    assert_eq!(units, expected);
    assert_eq!(survey.command_lines[0].text, "root=/dev/vda1 quiet");
    assert_eq!(survey.modules[0].release, "6.1");
    assert_eq!(survey.modules[0].names, ["x"]);
    let rights: Vec<_> = survey
        .privileged
        .iter()
        .map(|file| (file.path.as_str(), file.mode.as_str(), file.why.clone()))
        .collect();
    assert_eq!(rights, [("/usr/bin/su", "4755", vec!["setuid"])]);
}

#[test]
fn what_is_no_disk_is_refused_by_name() {
    let rows = [
        (Vec::new(), "the image is empty"),
        (b"PK\x03\x04 and more".to_vec(), "a ZIP archive"),
    ];
    for (bytes, words) in rows {
        let error = look(part(bytes)).map(drop).expect_err(words);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(words), "{cause}");
    }
    let blank = look(part(vec![0; 4096])).unwrap();
    assert!(blank.root.is_none() && blank.disk.partitions.is_empty());
}
