//! The fixed structures of EROFS, field by field.
//!
//! Names follow `fs/erofs/erofs_fs.h` of the Linux kernel. All integers are little-endian.

use super::error::ReadError;

/// Bytes per block; the only block size this module writes and reads.
pub const BLOCK: usize = 4096;
/// `log2` of [`BLOCK`].
pub const BLOCK_BITS: u32 = 12;
/// Inode numbers (nids) count slots of this many bytes.
pub const SLOT: usize = 32;
/// Where the superblock lies.
pub const SUPER_OFFSET: usize = 1024;
/// Bytes of the superblock without extension slots.
pub const SUPER_SIZE: usize = 128;
/// `EROFS_SUPER_MAGIC_V1`.
pub const MAGIC: u32 = 0xe0f5_e1e2;
/// Largest physical cluster, `Z_EROFS_PCLUSTER_MAX_SIZE`.
pub const CLUSTER_LIMIT: usize = 1 << 20;
/// A chunk that is a hole, the 32-bit form of `EROFS_NULL_ADDR`.
pub const HOLE: u32 = u32::MAX;

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`: the superblock carries a checksum.
pub const COMPAT_CHECKSUM: u32 = 0x1;
/// `EROFS_FEATURE_COMPAT_MTIME`: times are modification times.
pub const COMPAT_MTIME: u32 = 0x2;
/// `EROFS_FEATURE_INCOMPAT_LZ4_0PADDING`: compressed data ends at the end of its blocks.
pub const INCOMPAT_ZERO_PADDING: u32 = 0x1;
/// `EROFS_FEATURE_INCOMPAT_COMPR_CFGS`, the same bit as `..._BIG_PCLUSTER`.
pub const INCOMPAT_CONFIGS: u32 = 0x2;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`.
pub const INCOMPAT_CHUNKED: u32 = 0x4;
/// `EROFS_FEATURE_INCOMPAT_ZTAILPACKING`: compressed tails lie beside their inodes.
pub const INCOMPAT_TAILS: u32 = 0x10;

/// `Z_EROFS_COMPRESSION_LZ4`.
pub const ALGORITHM_LZ4: u8 = 0;
/// `Z_EROFS_COMPRESSION_ZSTD`.
pub const ALGORITHM_ZSTD: u8 = 3;

/// `S_IFMT` and the types below it.
pub mod mode {
    /// Mask of the file type.
    pub const TYPE: u16 = 0o170_000;
    /// Regular file.
    pub const FILE: u16 = 0o100_000;
    /// Directory.
    pub const DIRECTORY: u16 = 0o040_000;
    /// Symbolic link.
    pub const SYMLINK: u16 = 0o120_000;
    /// Character device.
    pub const CHAR: u16 = 0o020_000;
    /// Block device.
    pub const BLOCK: u16 = 0o060_000;
    /// Named pipe.
    pub const FIFO: u16 = 0o010_000;
    /// Socket.
    pub const SOCKET: u16 = 0o140_000;
}

/// The superblock, without what this module always leaves zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuperBlock {
    /// Features a reader may ignore.
    pub feature_compat: u32,
    /// Features a reader must know.
    pub feature_incompat: u32,
    /// Nid of the root directory.
    pub root_nid: u16,
    /// Number of inodes.
    pub inos: u64,
    /// Seconds of every compact inode.
    pub epoch: i64,
    /// Blocks of the whole image.
    pub blocks: u32,
    /// First block of the metadata area; nids count from here.
    pub meta_block: u32,
    /// First block of the shared extended attributes.
    pub xattr_block: u32,
    /// UUID, bytes in text order.
    pub uuid: [u8; 16],
    /// Bit set of algorithms used.
    pub algorithms: u16,
}

impl SuperBlock {
    /// The 128 bytes, with a checksum of zero.
    #[must_use]
    pub fn encode(&self) -> [u8; SUPER_SIZE] {
        let mut bytes = [0; SUPER_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC.to_le_bytes());
        put(8, &self.feature_compat.to_le_bytes());
        put(12, &[BLOCK_BITS.to_le_bytes()[0], 0]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inos.to_le_bytes());
        put(24, &self.epoch.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        put(44, &self.xattr_block.to_le_bytes());
        put(48, &self.uuid);
        put(80, &self.feature_incompat.to_le_bytes());
        put(84, &self.algorithms.to_le_bytes());
        bytes
    }

    /// Reads what [`SuperBlock::encode`] writes; the checksum is the caller's business.
    ///
    /// # Errors
    /// No EROFS image, or one with another block size or unknown features.
    pub fn decode(bytes: &[u8; SUPER_SIZE]) -> Result<Self, ReadError> {
        let damaged = |at: usize, what, found, expected: u64| ReadError::Damaged {
            offset: (SUPER_OFFSET + at) as u64,
            what,
            found,
            expected: format!("{expected:#x}"),
        };
        if u32_at(bytes, 0) != MAGIC {
            return Err(damaged(
                0,
                "the magic number",
                u32_at(bytes, 0).into(),
                MAGIC.into(),
            ));
        }
        if u32::from(bytes[12]) != BLOCK_BITS {
            return Err(damaged(12, "the block size exponent", bytes[12].into(), 12));
        }
        let feature_incompat = u32_at(bytes, 80);
        let known = INCOMPAT_ZERO_PADDING | INCOMPAT_CONFIGS | INCOMPAT_CHUNKED | INCOMPAT_TAILS;
        if feature_incompat & !known != 0 || bytes[13] != 0 || bytes[90] != 0 {
            return Err(ReadError::Unknown {
                what: "a feature",
                found: u64::from(feature_incompat & !known),
            });
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[48..64]);
        Ok(Self {
            feature_compat: u32_at(bytes, 8),
            feature_incompat,
            root_nid: u16_at(bytes, 14),
            inos: u64_at(bytes, 16),
            epoch: u64_at(bytes, 24).cast_signed(),
            blocks: u32_at(bytes, 36),
            meta_block: u32_at(bytes, 40),
            xattr_block: u32_at(bytes, 44),
            uuid,
            algorithms: u16_at(bytes, 84),
        })
    }
}

/// How the data of an inode lies (`i_format` bits 1..=3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataLayout {
    /// Whole blocks, one after the other.
    Plain,
    /// As plain, but the last, partial block lies behind the inode.
    Inline,
    /// Compressed, with 2-byte and 4-byte indexes.
    Compact,
    /// A table of chunks, each of which may be a hole.
    Chunked,
}

impl DataLayout {
    const fn number(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Inline => 2,
            Self::Compact => 3,
            Self::Chunked => 4,
        }
    }
}

/// An inode in its compact (32 bytes) or extended (64 bytes) form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// How the data lies.
    pub layout: DataLayout,
    /// `i_xattr_icount`.
    pub xattr_count: u16,
    /// Type and permissions.
    pub mode: u16,
    /// Number of names.
    pub links: u32,
    /// Size in bytes.
    pub size: u64,
    /// `i_u`: first block, number of compressed blocks, device number or chunk format.
    pub union: u32,
    /// Serial number, for 32-bit `stat`.
    pub number: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970-01-01 UTC.
    pub mtime: i64,
}

impl Inode {
    /// The shortest form that keeps every field, appended to `out`.
    ///
    /// A compact inode has no time of its own in kernels before 6.14: it shows the epoch of the
    /// superblock. So only inodes of that time are compact, and their time field stays zero,
    /// which newer kernels read as an offset to the epoch.
    pub fn encode(&self, epoch: i64, out: &mut Vec<u8>) {
        let format = self.layout.number() << 1;
        match self.compact_fields(epoch) {
            Some((links, size, uid, gid)) => {
                out.extend_from_slice(&format.to_le_bytes());
                out.extend_from_slice(&self.xattr_count.to_le_bytes());
                out.extend_from_slice(&self.mode.to_le_bytes());
                out.extend_from_slice(&links.to_le_bytes());
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&self.union.to_le_bytes());
                out.extend_from_slice(&self.number.to_le_bytes());
                out.extend_from_slice(&uid.to_le_bytes());
                out.extend_from_slice(&gid.to_le_bytes());
                out.extend_from_slice(&[0; 4]);
            }
            None => {
                out.extend_from_slice(&(format | 1).to_le_bytes());
                out.extend_from_slice(&self.xattr_count.to_le_bytes());
                out.extend_from_slice(&self.mode.to_le_bytes());
                out.extend_from_slice(&[0; 2]);
                out.extend_from_slice(&self.size.to_le_bytes());
                out.extend_from_slice(&self.union.to_le_bytes());
                out.extend_from_slice(&self.number.to_le_bytes());
                out.extend_from_slice(&self.uid.to_le_bytes());
                out.extend_from_slice(&self.gid.to_le_bytes());
                out.extend_from_slice(&self.mtime.to_le_bytes());
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&self.links.to_le_bytes());
                out.extend_from_slice(&[0; 16]);
            }
        }
    }

    fn compact_fields(&self, epoch: i64) -> Option<(u16, u32, u16, u16)> {
        if self.mtime != epoch {
            return None;
        }
        let links = u16::try_from(self.links).ok()?;
        let size = u32::try_from(self.size).ok()?;
        let uid = u16::try_from(self.uid).ok()?;
        Some((links, size, uid, u16::try_from(self.gid).ok()?))
    }

    /// Reads an inode from 64 bytes that start at byte `offset` of the image; gives it with the
    /// number of bytes it takes.
    ///
    /// # Errors
    /// A data layout that this module never writes.
    pub fn decode(bytes: &[u8; 64], offset: u64, epoch: i64) -> Result<(Self, usize), ReadError> {
        let format = u16_at(bytes, 0);
        let layout = match format >> 1 {
            0 => DataLayout::Plain,
            2 => DataLayout::Inline,
            3 => DataLayout::Compact,
            4 => DataLayout::Chunked,
            _ => {
                return Err(ReadError::Damaged {
                    offset,
                    what: "the inode format",
                    found: format.into(),
                    expected: "a data layout of 0, 2, 3 or 4".to_owned(),
                });
            }
        };
        let mut inode = Self {
            layout,
            xattr_count: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            links: u16_at(bytes, 6).into(),
            size: u32_at(bytes, 8).into(),
            union: u32_at(bytes, 16),
            number: u32_at(bytes, 20),
            uid: u16_at(bytes, 24).into(),
            gid: u16_at(bytes, 26).into(),
            mtime: epoch,
        };
        if format & 1 == 0 {
            return Ok((inode, 32));
        }
        inode.size = u64_at(bytes, 8);
        inode.uid = u32_at(bytes, 24);
        inode.gid = u32_at(bytes, 28);
        inode.mtime = u64_at(bytes, 32).cast_signed();
        inode.links = u32_at(bytes, 44);
        Ok((inode, 64))
    }
}

/// The device number as `new_encode_dev` of the kernel packs it.
#[must_use]
pub const fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The inverse of [`encode_device`]: major and minor number.
#[must_use]
pub const fn decode_device(device: u32) -> (u32, u32) {
    (
        (device & 0xf_ff00) >> 8,
        (device & 0xff) | ((device >> 12) & 0xf_ff00),
    )
}

/// CRC-32C without final inversion and with all bits set at the start, as EROFS keeps it.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |mut crc, &byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry != 0 {
                crc ^= 0x82f6_3b78;
            }
        }
        crc
    })
}

/// The 16-bit integer at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit integer at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The 64-bit integer at `at`.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
