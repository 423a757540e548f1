//! The variable store that OVMF keeps in its second flash chip.
//!
//! ```text
//!  0  16 zeros, gEfiSystemNvDataFvGuid, length u64, "_FVH", attributes u32,
//!     bytes of this header u16, checksum u16, ..., list of blocks     the firmware volume
//!  H  gEfiAuthenticatedVariableGuid, bytes of the store u32, 0x5a, 0xfe, 6 zeros
//!  H+28  variables, each at a multiple of 4:
//!        0x55aa, state u8, 0, attributes u32, count u64, time 16, key index u32,
//!        bytes of the name u32, bytes of the data u32, vendor 16, name (UTF-16, NUL), data
//!  then  0xff, erased flash, to the end of the store; then space for fault tolerant writes
//! ```
//! After edk2's `PiFirmwareVolume.h` and `VariableFormat.h` (`AUTHENTICATED_VARIABLE_HEADER`).

use super::{Guid, Time};
use crate::x509::X509Error;

/// Bytes of the header of the store.
const STORE_HEADER: usize = 28;
/// Bytes of the header of a variable.
const VARIABLE_HEADER: usize = 60;
/// `VARIABLE_DATA`: where a variable begins.
const START: u16 = 0x55aa;
/// `VAR_ADDED`: it is whole and valid.
const ADDED: u8 = 0x3f;
/// `VAR_IN_DELETED_TRANSITION & VAR_ADDED`: valid as long as no newer one of its name is.
const IN_DELETION: u8 = 0x3e;
/// `VARIABLE_STORE_FORMATTED` and `VARIABLE_STORE_HEALTHY`.
const HEALTHY: [u8; 2] = [0x5a, 0xfe];
/// Erased flash.
const ERASED: u8 = 0xff;

/// The bytes are no variable store, or it cannot take what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not the variable store of OVMF.
    #[error("this is no UEFI variable store: {problem} (byte {offset})")]
    Format {
        /// Where.
        offset: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The variables need more room than there is.
    #[error("the variable store has room for {room} bytes, its variables need {needed}")]
    Full {
        /// Bytes that fit.
        room: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// A list of certificates is malformed.
    #[error("a UEFI signature list is malformed")]
    List,
    /// A certificate in a list cannot be read.
    #[error("cannot read a certificate of a UEFI signature list")]
    Certificate(#[source] X509Error),
}

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub vendor: Guid,
    /// `EFI_VARIABLE_*` bits.
    pub attributes: u32,
    /// Of the last authenticated write; zeros for variables that need none.
    pub time: Time,
    /// Its value.
    pub data: Vec<u8>,
}

/// A variable store, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The whole file; what is not variables is kept as it is.
    file: Vec<u8>,
    /// Where variables begin.
    start: usize,
    /// Where their room ends.
    end: usize,
    variables: Vec<Variable>,
}

impl Store {
    /// Takes a store apart: a template of the distribution, or one that a machine has used.
    ///
    /// # Errors
    /// The bytes are no variable store with authenticated variables.
    pub fn parse(file: &[u8]) -> Result<Self, StoreError> {
        let refuse = |offset, problem| Err(StoreError::Format { offset, problem });
        if file.get(16..32) != Some(&Guid::SYSTEM_NV_DATA.0) || file.get(40..44) != Some(b"_FVH") {
            return refuse(16, "it is no firmware volume of variables");
        }
        let store = usize::from(u16::from_le_bytes(bytes_at(file, 48)?));
        if file.get(store..store + 16) != Some(&Guid::AUTHENTICATED_VARIABLE.0) {
            return refuse(store, "its variables are not authenticated ones");
        }
        if bytes_at(file, store + 20)? != HEALTHY {
            return refuse(store + 20, "it is not formatted or not healthy");
        }
        let size = u32::from_le_bytes(bytes_at(file, store + 16)?) as usize;
        let end = store.saturating_add(size);
        if size < STORE_HEADER || end > file.len() {
            return refuse(store + 16, "its size is impossible");
        }
        let start = store + STORE_HEADER;
        Ok(Self {
            file: file.to_vec(),
            start,
            end,
            variables: variables(&file[..end], start)?,
        })
    }

    /// Its variables, oldest first.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Puts a variable in, in place of the one of its name.
    pub fn set(&mut self, variable: Variable) {
        let same =
            |old: &&mut Variable| (&old.name, old.vendor) == (&variable.name, variable.vendor);
        match self.variables.iter_mut().find(same) {
            Some(old) => *old = variable,
            None => self.variables.push(variable),
        }
    }

    /// The file with the variables as they are now, one after the other, nothing deleted between.
    ///
    /// # Errors
    /// They do not fit.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        let mut area = Vec::new();
        for variable in &self.variables {
            variable.write(&mut area);
            area.resize(area.len().next_multiple_of(4), ERASED);
        }
        let room = self.end - self.start;
        if area.len() > room {
            return Err(StoreError::Full {
                room,
                needed: area.len(),
            });
        }
        area.resize(room, ERASED);
        let mut file = self.file.clone();
        file[self.start..self.end].copy_from_slice(&area);
        Ok(file)
    }
}

impl Variable {
    fn write(&self, out: &mut Vec<u8>) {
        let name: Vec<u8> = self
            .name
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        // Nothing of 4 GiB gets past the check of the room.
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
        out.extend_from_slice(&START.to_le_bytes());
        out.extend_from_slice(&[ADDED, 0]);
        out.extend_from_slice(&self.attributes.to_le_bytes());
        out.extend_from_slice(&0_u64.to_le_bytes());
        out.extend_from_slice(&self.time.0);
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&size(name.len()));
        out.extend_from_slice(&size(self.data.len()));
        out.extend_from_slice(&self.vendor.0);
        out.extend_from_slice(&name);
        out.extend_from_slice(&self.data);
    }
}

/// The valid variables between `start` and the end of `file`.
fn variables(file: &[u8], start: usize) -> Result<Vec<Variable>, StoreError> {
    let (mut whole, mut leaving) = (Vec::new(), Vec::new());
    let mut at = start;
    while file.get(at..at + 2) == Some(&START.to_le_bytes()) {
        let cut = StoreError::Format {
            offset: at,
            problem: "a variable is cut off",
        };
        let name_size = u32::from_le_bytes(bytes_at(file, at + 36)?) as usize;
        let data_size = u32::from_le_bytes(bytes_at(file, at + 40)?) as usize;
        let name_start = at + VARIABLE_HEADER;
        let data_start = name_start.checked_add(name_size).ok_or(cut.clone())?;
        let end = data_start.checked_add(data_size).ok_or(cut.clone())?;
        let (Some(name), Some(data)) =
            (file.get(name_start..data_start), file.get(data_start..end))
        else {
            return Err(cut);
        };
        let units = name
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let name: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
            .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        let variable = Variable {
            name,
            vendor: Guid(bytes_at(file, at + 44)?),
            attributes: u32::from_le_bytes(bytes_at(file, at + 4)?),
            time: Time(bytes_at(file, at + 16)?),
            data: data.to_vec(),
        };
        match bytes_at::<1>(file, at + 2)? {
            [ADDED] => whole.push(variable),
            [IN_DELETION] => leaving.push(variable),
            _ => {}
        }
        at = end.next_multiple_of(4);
    }
    for variable in leaving {
        let key = |other: &Variable| (other.name.clone(), other.vendor);
        if !whole.iter().any(|other| key(other) == key(&variable)) {
            whole.push(variable);
        }
    }
    Ok(whole)
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], StoreError> {
    let rest = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    rest.copied().ok_or(StoreError::Format {
        offset,
        problem: "it is cut off",
    })
}
