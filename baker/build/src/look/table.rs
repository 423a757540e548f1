//! Partition tables of any disk: GPT, or MBR with its logical partitions.

use std::io;

use baker_formats::gpt::{self, GptError};
use baker_formats::io::{Part, Source as _};
use baker_model::layout::{SECTOR, partition_type};

use super::{LookError, Partition};

/// Types of the Discoverable Partitions Specification and the two of other systems that are met.
const TYPES: [(&str, &str); 11] = [
    (partition_type::ESP, "esp"),
    (partition_type::ROOT_X86_64, "root-x86-64"),
    (partition_type::ROOT_VERITY_X86_64, "root-x86-64-verity"),
    (partition_type::ROOT_AARCH64, "root-arm64"),
    (partition_type::ROOT_VERITY_AARCH64, "root-arm64-verity"),
    (partition_type::VAR, "var"),
    (partition_type::LINUX_GENERIC, "linux-generic"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "xbootldr"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "swap"),
    ("21686148-6449-6e6f-744e-656564454649", "bios-boot"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "microsoft-data"),
];

/// Most logical partitions that are followed: each names the next, and they could go round.
const LOGICAL_LIMIT: u32 = 60;

/// The kind of the table, and its partitions by their place.
pub(super) fn read(disk: &Part) -> Result<(&'static str, Vec<Partition>), LookError> {
    let head = disk.up_to(0, 1024).map_err(LookError::Read)?;
    if head.get(512..520) == Some(b"EFI PART") {
        return Ok(("gpt", from_gpt(disk)?));
    }
    if head.get(510..512) != Some(b"\x55\xaa") {
        return Ok(("none", Vec::new()));
    }
    let partitions = from_mbr(disk).map_err(LookError::Read)?;
    Ok(("mbr", partitions))
}

fn from_gpt(disk: &Part) -> Result<Vec<Partition>, GptError> {
    let layout = gpt::read(&mut disk.clone())?;
    let partitions = (1..).zip(layout.partitions);
    Ok(partitions
        .map(|(number, partition)| {
            let known = TYPES.iter().find(|(uuid, _)| *uuid == partition.type_uuid);
            Partition {
                number,
                name: partition.name,
                kind: known.map_or(partition.type_uuid, |(_, name)| (*name).to_owned()),
                uuid: uuid_text(&partition.uuid),
                offset: partition.offset,
                size: partition.size,
                content: "unknown",
                problem: None,
            }
        })
        .collect())
}

/// A UUID as text, from bytes in text order.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// One used entry of a boot record: type, first sector, sectors.
type Slot = (u8, u64, u64);

fn slots(disk: &Part, offset: u64) -> io::Result<Vec<Slot>> {
    let mut sector = [0; 512];
    disk.read_exact_at(offset, &mut sector)?;
    if sector[510..] != [0x55, 0xaa] {
        return Ok(Vec::new());
    }
    let entries = sector[446..510].as_chunks::<16>().0;
    let word =
        |bytes: &[u8]| u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let slots = entries
        .iter()
        .map(|entry| (entry[4], word(&entry[8..12]), word(&entry[12..16])));
    Ok(slots.filter(|(kind, ..)| *kind != 0).collect())
}

const fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

fn from_mbr(disk: &Part) -> io::Result<Vec<Partition>> {
    let mut partitions = Vec::new();
    let mut extended = None;
    for (number, (kind, first, sectors)) in (1..).zip(slots(disk, 0)?) {
        if is_extended(kind) {
            extended = Some(first);
        } else {
            partitions.push(partition(number, kind, first, sectors));
        }
    }
    // Each logical partition has a boot record of its own, whose second entry leads to the next;
    // places count from the record and from the first record.
    let mut next = extended;
    for number in 5..5 + LOGICAL_LIMIT {
        let (Some(base), Some(at)) = (extended, next.take()) else {
            break;
        };
        let Ok(slots) = slots(disk, at * SECTOR) else {
            break;
        };
        for (kind, first, sectors) in slots {
            if is_extended(kind) {
                next = Some(base + first);
            } else {
                partitions.push(partition(number, kind, at + first, sectors));
            }
        }
    }
    partitions.sort_by_key(|partition| partition.offset);
    Ok(partitions)
}

fn partition(number: u32, kind: u8, first: u64, sectors: u64) -> Partition {
    let name = match kind {
        0x82 => "swap".to_owned(),
        0x83 => "linux".to_owned(),
        0x8e => "lvm".to_owned(),
        0xef => "esp".to_owned(),
        other => format!("{other:#04x}"),
    };
    Partition {
        number,
        name: String::new(),
        kind: name,
        uuid: String::new(),
        offset: first * SECTOR,
        size: sectors * SECTOR,
        content: "unknown",
        problem: None,
    }
}
