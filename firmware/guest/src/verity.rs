//! The dm-verity superblock and table.
//!
//! ```text
//! 0    "verity\0\0"          64   u32 data block size
//! 8    u32 version = 1       68   u32 hash block size
//! 12   u32 hash type = 1     72   u64 data blocks
//! 16   uuid                  80   u16 salt size
//! 32   algorithm, NUL-padded 88   salt, 256 bytes at most
//! ```
//! Format version 1 of cryptsetup ("DMVerity" in its wiki), little endian.

use crate::cmdline::{OnCorruption, RootHash, hex};

/// Bytes of the superblock.
pub const SUPERBLOCK_SIZE: usize = 512;

/// Bytes of a device-mapper sector.
const SECTOR: u64 = 512;

/// What the superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    uuid: [u8; 16],
    data_block_size: u32,
    hash_block_size: u32,
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    /// Parses and checks the superblock. It carries no authority: whatever it says wrongly makes
    /// the root hash fail.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8; SUPERBLOCK_SIZE]) -> Result<Self, String> {
        if !bytes.starts_with(b"verity\0\0") {
            return Err("no verity superblock".into());
        }
        let (version, hash_type) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if (version, hash_type) != (1, 1) {
            return Err(format!(
                "verity superblock version {version}, hash type {hash_type}"
            ));
        }
        let algorithm = bytes[32..64]
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        if algorithm != b"sha256" {
            let name = String::from_utf8_lossy(algorithm);
            return Err(format!(
                "verity superblock names algorithm {name}, not sha256"
            ));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[16..32]);
        let salt_size = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        let salt = bytes[88..88 + 256].get(..salt_size);
        Ok(Self {
            uuid,
            data_block_size: block_size(u32_at(bytes, 64))?,
            hash_block_size: block_size(u32_at(bytes, 68))?,
            data_blocks: u64::from_le_bytes([
                bytes[72], bytes[73], bytes[74], bytes[75], bytes[76], bytes[77], bytes[78],
                bytes[79],
            ]),
            salt: salt
                .ok_or_else(|| format!("verity salt of {salt_size} bytes"))?
                .to_vec(),
        })
    }

    /// Length of the opened device in sectors of 512 bytes; none when it overflows.
    pub fn sectors(&self) -> Option<u64> {
        self.data_blocks
            .checked_mul(u64::from(self.data_block_size) / SECTOR)
    }

    /// The device-mapper UUID in cryptsetup's form, so that its tools know the device.
    pub fn device_uuid(&self, name: &str) -> String {
        format!("CRYPT-VERITY-{}-{name}", hex(&self.uuid))
    }

    /// Parameters of the `verity` target (kernel: `admin-guide/device-mapper/verity.rst`); devices
    /// as `major:minor`. The tree starts in the block behind the superblock.
    pub fn table(&self, data: &str, tree: &str, root: &RootHash, mode: OnCorruption) -> String {
        let salt = if self.salt.is_empty() {
            "-".to_owned()
        } else {
            hex(&self.salt)
        };
        let option = match mode {
            OnCorruption::Panic => " 1 panic_on_corruption",
            OnCorruption::Restart => " 1 restart_on_corruption",
            OnCorruption::Eio => "",
        };
        format!(
            "1 {data} {tree} {} {} {} 1 sha256 {} {salt}{option}",
            self.data_block_size,
            self.hash_block_size,
            self.data_blocks,
            root.hex(),
        )
    }
}

fn block_size(size: u32) -> Result<u32, String> {
    if size.is_power_of_two() && (512..=65536).contains(&size) {
        Ok(size)
    } else {
        Err(format!("verity block size {size}"))
    }
}

fn u32_at(bytes: &[u8; SUPERBLOCK_SIZE], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The root hash inside the parameters of an active `verity` target.
pub fn root_hash_of_table(parameters: &str) -> Option<RootHash> {
    RootHash::parse(parameters.split_ascii_whitespace().nth(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> [u8; SUPERBLOCK_SIZE] {
        let mut bytes = [0xa5; SUPERBLOCK_SIZE];
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
        bytes[16..32].fill(0x11);
        bytes[32..64].fill(0);
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[64..68].copy_from_slice(&4096u32.to_le_bytes());
        bytes[68..72].copy_from_slice(&4096u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&1000u64.to_le_bytes());
        bytes[80..82].copy_from_slice(&2u16.to_le_bytes());
        bytes[88..90].copy_from_slice(&[0xbe, 0xef]);
        bytes
    }

    #[test]
    fn the_table_says_what_the_superblock_says() {
        let superblock = Superblock::parse(&bytes()).unwrap();
        let hash = RootHash::parse(&"ab".repeat(32)).unwrap();
        let table = superblock.table("254:1", "254:2", &hash, OnCorruption::Panic);
        let digits = hash.hex();
        assert_eq!(
            table,
            format!("1 254:1 254:2 4096 4096 1000 1 sha256 {digits} beef 1 panic_on_corruption")
        );
        assert_eq!(superblock.sectors(), Some(8000));
        assert_eq!(root_hash_of_table(&table), Some(hash));
        assert_eq!(
            superblock.device_uuid("r"),
            "CRYPT-VERITY-11111111111111111111111111111111-r"
        );
        assert_eq!(root_hash_of_table("1 254:1"), None);
    }

    #[test]
    fn an_empty_salt_is_a_dash() {
        let mut bytes = bytes();
        bytes[80] = 0;
        let hash = RootHash::parse(&"ab".repeat(32)).unwrap();
        let table =
            Superblock::parse(&bytes)
                .unwrap()
                .table("1:1", "1:2", &hash, OnCorruption::Eio);
        assert!(table.ends_with(" -"), "{table}");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (at, value) in [
            (0, 0),
            (8, 2),
            (12, 0),
            (36, b'1'),
            (65, 3),
            (69, 0),
            (81, 2),
        ] {
            let mut bytes = bytes();
            bytes[at] = value;
            assert!(Superblock::parse(&bytes).is_err(), "byte {at}");
        }
    }
}
