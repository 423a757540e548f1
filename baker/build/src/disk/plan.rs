//! Where everything lies on the disk.

use baker_formats::{fat, verity};
use baker_model::Digest;
use baker_model::layout::{ALIGNMENT, Layout, Partition, Role, partition_type, verity_uuids};
use baker_model::recipe::Architecture;

use super::{DiskError, Request};
use crate::configure::{DATA_LABEL, ESP_LABEL};

/// UKIs that the ESP has room for: the one that runs, the one before it, and one that arrives.
const UKIS: u64 = 3;

/// Longest partition name, in UTF-16 units; ours are ASCII.
const LABEL_LIMIT: usize = 36;

/// Name of a slot that waits for its first image, as systemd-sysupdate looks for it.
const EMPTY: &str = "_empty";

/// GPT attribute bit "read-only" of the Discoverable Partitions Specification.
const READ_ONLY: u64 = 1 << 60;

/// Lays out the disk for a root image of `root_size` bytes and boot files of these sizes.
pub(super) fn plan(
    request: &Request<'_>,
    root_size: u64,
    boot_files: impl Iterator<Item = u64>,
) -> Result<Layout, DiskError> {
    let disk = request.disk;
    let label = format!("{}_{}", request.name, request.version);
    let tree_label = format!("{label}_verity");
    if tree_label.len() > LABEL_LIMIT {
        return Err(DiskError::Label {
            label: tree_label,
            limit: LABEL_LIMIT,
        });
    }
    let uki = request.uki.len() as u64;
    let others = std::iter::repeat_n(uki, usize::try_from(UKIS - 1).unwrap_or_default());
    let esp = disk
        .esp_mib
        .map_or_else(|| fat::volume_size(boot_files.chain(others)), mib);
    let slot = slot_size(request, root_size)?;
    let tree = verity::hash_size(slot);
    let (root_uuid, tree_uuid) = verity_uuids(&request.root_hash);
    let derived = |id: &str| request.lock.derive(id).to_uuid_bytes();
    let mut rows = vec![
        (Role::Esp, ESP_LABEL.to_owned(), derived("esp"), esp),
        (Role::Root, label, root_uuid, slot),
        (Role::RootVerity, tree_label, tree_uuid, tree),
    ];
    if disk.slots == 2 {
        rows.push((Role::Root, EMPTY.to_owned(), derived("root-b"), slot));
        rows.push((
            Role::RootVerity,
            EMPTY.to_owned(),
            derived("verity-b"),
            tree,
        ));
    }
    if let Some(data) = disk.data_mib {
        rows.push((
            Role::Data,
            DATA_LABEL.to_owned(),
            derived("data"),
            mib(data),
        ));
    }
    // The machine makes this one itself, of the room that is left.
    let room = disk.data.as_ref().map_or(0, |data| mib(data.mib));
    let mut end = ALIGNMENT;
    let mut partitions = Vec::new();
    for (role, name, uuid, size) in rows {
        let size = size.next_multiple_of(ALIGNMENT);
        partitions.push(Partition {
            role,
            name,
            type_uuid: type_of(role, request.architecture).to_owned(),
            uuid,
            offset: end,
            size,
            attributes: attributes(role),
        });
        end += size;
    }
    // The backup table takes the last 33 sectors.
    Ok(Layout {
        disk_uuid: disk_uuid(request.lock),
        size: end + room + ALIGNMENT,
        partitions,
    })
}

fn disk_uuid(lock: Digest) -> [u8; 16] {
    lock.derive("gpt").to_uuid_bytes()
}

fn mib(count: u32) -> u64 {
    u64::from(count) << 20
}

/// As asked for; else as large as needed, and half as much again where a later image must fit.
fn slot_size(request: &Request<'_>, root_size: u64) -> Result<u64, DiskError> {
    let slot = match (request.disk.slot_mib, request.disk.slots) {
        (Some(asked), _) => mib(asked),
        (None, 2) => root_size + root_size / 2,
        (None, _) => root_size,
    };
    let slot = slot.next_multiple_of(ALIGNMENT);
    if root_size > slot {
        return Err(DiskError::SlotTooSmall {
            size: root_size,
            slot,
        });
    }
    Ok(slot)
}

fn type_of(role: Role, architecture: Architecture) -> &'static str {
    match (role, architecture) {
        (Role::Esp, _) => partition_type::ESP,
        (Role::Root, Architecture::Amd64) => partition_type::ROOT_X86_64,
        (Role::Root, Architecture::Arm64) => partition_type::ROOT_AARCH64,
        (Role::RootVerity, Architecture::Amd64) => partition_type::ROOT_VERITY_X86_64,
        (Role::RootVerity, Architecture::Arm64) => partition_type::ROOT_VERITY_AARCH64,
        (Role::Data, _) => partition_type::VAR,
    }
}

fn attributes(role: Role) -> u64 {
    match role {
        Role::Root | Role::RootVerity => READ_ONLY,
        Role::Esp | Role::Data => 0,
    }
}
