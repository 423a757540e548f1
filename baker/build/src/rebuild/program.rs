//! Programs that differ: section by section, and an initramfs member by member.

use std::io::Read as _;

use baker_formats::cpio::{self, Member};
use baker_formats::fat;
use baker_formats::gpt;
use baker_formats::io::Part;
use baker_formats::pe::Image;
use baker_model::layout::Role;

use super::regions::{Differing, of};
use super::{Difference, Disks};
use crate::anatomy::Structure;

/// Larger programs than this are told as bytes only.
const PROGRAM_LIMIT: u64 = 256 << 20;

/// An unpacked initramfs is not larger than this.
const INITRD_LIMIT: u64 = 512 << 20;

/// Differences of all programs.
pub(super) fn compare(disks: &Disks<'_>, regions: &[Differing]) -> Vec<Difference> {
    let mut paths: Vec<&str> = Vec::new();
    for differing in regions {
        if let Structure::Program { path, .. } = &differing.region.structure
            && !paths.contains(&path.as_str())
        {
            paths.push(path);
        }
    }
    let mut found = Vec::new();
    for path in paths {
        let sections = sections(disks, path).unwrap_or_default();
        if sections.is_empty() {
            found.extend(of(
                regions,
                disks,
                |structure| matches!(structure, Structure::Program { path: of, .. } if of == path),
            ));
        }
        found.extend(sections);
    }
    found
}

fn read(disk: &Part, path: &str) -> Option<Vec<u8>> {
    let layout = gpt::read(&mut disk.clone()).ok()?;
    let esp = layout
        .partitions
        .iter()
        .find(|partition| partition.role == Role::Esp)?;
    fat::read(
        &mut disk.clone().buffered(),
        esp.offset,
        esp.size,
        path,
        PROGRAM_LIMIT,
    )
    .ok()
}

/// The sections of a program that differ; none when it cannot be read on both disks.
fn sections(disks: &Disks<'_>, path: &str) -> Option<Vec<Difference>> {
    let (left, right) = (read(disks.release, path)?, read(disks.rebuilt, path)?);
    let (one, other) = (Image::parse(&left).ok()?, Image::parse(&right).ok()?);
    let mut found = Vec::new();
    let mut add = |structure: String, detail: String| {
        found.push(Difference {
            structure,
            partition: Some("ESP".to_owned()),
            path: Some(path.to_owned()),
            offset: None,
            detail,
        });
    };
    for section in &other.sections {
        let name = &section.name;
        let new = other.section_bytes(&right, name).unwrap_or_default();
        match one.section_bytes(&left, name) {
            None => add(format!("section {name}"), "the release has none".to_owned()),
            Some(old) if old == new => {}
            Some(old) if name == ".initrd" => {
                let (member, detail) = initrd(old, new);
                add(format!("section {name}, {member}"), detail);
            }
            Some(old) => add(format!("section {name}"), text_or_bytes(old, new)),
        }
    }
    for section in &one.sections {
        if other.section(&section.name).is_none() {
            let structure = format!("section {}", section.name);
            add(structure, "only the release has it".to_owned());
        }
    }
    Some(found)
}

/// Short texts whole, all else by the first byte.
fn text_or_bytes(old: &[u8], new: &[u8]) -> String {
    const SHORT: usize = 1024;
    let text = |bytes: &[u8]| {
        let text = str::from_utf8(bytes)
            .ok()?
            .trim_end_matches('\0')
            .to_owned();
        (text.len() <= SHORT && !text.contains(|c: char| c.is_control() && c != '\n'))
            .then_some(text)
    };
    if let (Some(old), Some(new)) = (text(old), text(new)) {
        return format!("it is {old:?}, not {new:?}");
    }
    let same = old.iter().zip(new).take_while(|(one, other)| one == other);
    format!(
        "{} bytes, not {}; it differs from its byte {} on",
        old.len(),
        new.len(),
        same.count()
    )
}

/// The first member of two archives that differs, and what of it.
fn initrd(old: &[u8], new: &[u8]) -> (String, String) {
    let found = || {
        let (old, new) = (unpacked(old)?, unpacked(new)?);
        let (left, right) = (cpio::members(&old).ok()?, cpio::members(&new).ok()?);
        let shown = |member: &Member| String::from_utf8_lossy(&member.name).into_owned();
        for (left, right) in left.iter().zip(&right) {
            if let Some(detail) = member((left, &old), (right, &new)) {
                return Some((format!("cpio member {}", shown(left)), detail));
            }
        }
        let more = |members: &[Member], others: usize| members.get(others).map(shown);
        if let Some(name) = more(&left, right.len()) {
            return Some((
                format!("cpio member {name}"),
                "only the release has it".to_owned(),
            ));
        }
        let name = more(&right, left.len())?;
        Some((
            format!("cpio member {name}"),
            "it is missing from the release".to_owned(),
        ))
    };
    // Equal members that are packed in another way, or an archive that cannot be read.
    found().unwrap_or_else(|| ("packing".to_owned(), text_or_bytes(old, new)))
}

fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        return Some(bytes.to_vec());
    }
    let decoder = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
    let mut plain = Vec::new();
    decoder.take(INITRD_LIMIT).read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// What differs between two members.
fn member(old: (&Member, &[u8]), new: (&Member, &[u8])) -> Option<String> {
    let name = |member: &Member| String::from_utf8_lossy(&member.name).into_owned();
    let (left, right) = (old.0, new.0);
    let rows = [
        ("its name", name(left), name(right)),
        (
            "its mode",
            format!("{:o}", left.mode),
            format!("{:o}", right.mode),
        ),
        (
            "its owner",
            format!("{}:{}", left.uid, left.gid),
            format!("{}:{}", right.uid, right.gid),
        ),
        ("its mtime", left.mtime.to_string(), right.mtime.to_string()),
        ("its inode", left.inode.to_string(), right.inode.to_string()),
        ("its links", left.links.to_string(), right.links.to_string()),
    ];
    let field = rows.into_iter().find(|(_, old, new)| old != new);
    if let Some((what, old, new)) = field {
        return Some(format!("{what} is {old}, not {new}"));
    }
    let (old, new) = (
        old.1.get(left.data.clone())?,
        new.1.get(right.data.clone())?,
    );
    (old != new).then(|| text_or_bytes(old, new))
}
