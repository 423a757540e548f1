//! Where everything lies on the disk.

/// Bytes per logical sector of the disks that baker writes.
pub const SECTOR: u64 = 512;

/// Partitions start at multiples of this many bytes (1 MiB).
pub const ALIGNMENT: u64 = 1 << 20;

/// Partition types of the Discoverable Partitions Specification that baker uses (text order).
pub mod partition_type {
    /// EFI System Partition.
    pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
    /// Root, x86-64.
    pub const ROOT_X86_64: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
    /// Hash tree of the root, x86-64.
    pub const ROOT_VERITY_X86_64: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
    /// Root, AArch64.
    pub const ROOT_AARCH64: &str = "b921b045-1df0-41c3-af44-4c6f280d3fae";
    /// Hash tree of the root, AArch64.
    pub const ROOT_VERITY_AARCH64: &str = "df3300ce-d69f-4c92-978c-9bfb0f38d820";
    /// Variable data, mounted at /var.
    pub const VAR: &str = "4d21b016-b534-45c2-a9fb-5c16e091fd2d";
    /// Any Linux data.
    pub const LINUX_GENERIC: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// EFI System Partition.
    Esp,
    /// A root file system.
    Root,
    /// The dm-verity hash tree of a root file system.
    RootVerity,
    /// Data that outlives the root.
    Data,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// GPT name, at most 36 UTF-16 units.
    pub name: String,
    /// Partition type UUID, text form.
    pub type_uuid: String,
    /// Unique partition UUID, bytes in text order.
    pub uuid: [u8; 16],
    /// First byte; a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// Number of bytes; a multiple of [`SECTOR`].
    pub size: u64,
    /// GPT attribute bits (bit 60: read-only).
    pub attributes: u64,
}

/// The whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// GPT disk UUID, bytes in text order.
    pub disk_uuid: [u8; 16],
    /// Total size in bytes; a multiple of [`ALIGNMENT`].
    pub size: u64,
    /// Partitions by offset.
    pub partitions: Vec<Partition>,
}

/// The UUIDs of root partition and hash partition: first and last 16 bytes of the root hash, as
/// the Discoverable Partitions Specification asks.
#[must_use]
pub fn verity_uuids(root_hash: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut first, mut last) = ([0; 16], [0; 16]);
    first.copy_from_slice(&root_hash[..16]);
    last.copy_from_slice(&root_hash[16..]);
    (first, last)
}
