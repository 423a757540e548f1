//! UEFI variables as firmware keeps them, as far as Secure Boot needs them.
//!
//! Takes and gives bytes: the variable store of OVMF ([`Store`]), lists of certificates
//! ([`signature_list`]) and signed updates of variables for firmware that is already enrolled or
//! in setup mode ([`Update`]). Knows no private key and no clock; owner and time are arguments.
//!
//! After the UEFI specification, sections 8.2 and 32.4, and edk2's `VariableFormat.h`.

mod guid;
mod list;
mod store;
mod time;
mod update;

pub use guid::Guid;
pub use list::{owner, read_signature_lists, signature_list};
pub use store::{Store, StoreError, Variable};
pub use time::Time;
pub use update::{Unsigned, Update, UpdateError};

use crate::x509::Certificate;

/// `EFI_VARIABLE_NON_VOLATILE`.
const NON_VOLATILE: u32 = 1;
/// `EFI_VARIABLE_BOOTSERVICE_ACCESS`.
const BOOT_SERVICE: u32 = 2;
/// `EFI_VARIABLE_RUNTIME_ACCESS`.
const RUNTIME: u32 = 4;
/// `EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS`.
const AUTHENTICATED: u32 = 0x20;

/// What the variables of Secure Boot are readable and writable by.
const KEY_ATTRIBUTES: u32 = NON_VOLATILE | BOOT_SERVICE | RUNTIME | AUTHENTICATED;

/// One of the three lists of certificates that decide about Secure Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// The platform key: who owns the machine; it may change the other two.
    Platform,
    /// Keys that may change `db`.
    Exchange,
    /// Keys that sign what may boot.
    Database,
}

impl KeyRole {
    /// All, in the order in which a machine is best enrolled: the platform key ends setup mode.
    pub const ALL: [Self; 3] = [Self::Database, Self::Exchange, Self::Platform];

    /// Name of the variable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "PK",
            Self::Exchange => "KEK",
            Self::Database => "db",
        }
    }

    /// Vendor of the variable.
    #[must_use]
    pub const fn vendor(self) -> Guid {
        match self {
            Self::Platform | Self::Exchange => Guid::GLOBAL_VARIABLE,
            Self::Database => Guid::IMAGE_SECURITY_DATABASE,
        }
    }
}

/// The certificates of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The platform key.
    pub platform: Certificate,
    /// The key exchange key.
    pub exchange: Certificate,
    /// The key that signs what boots.
    pub database: Certificate,
}

impl Keys {
    /// The certificate of a role.
    #[must_use]
    pub fn get(&self, role: KeyRole) -> &Certificate {
        match role {
            KeyRole::Platform => &self.platform,
            KeyRole::Exchange => &self.exchange,
            KeyRole::Database => &self.database,
        }
    }

    /// Whom the lists name as their owner: derived from the platform key, so that equal keys give
    /// equal lists.
    #[must_use]
    pub fn owner(&self) -> Guid {
        owner(&self.platform)
    }
}

/// Enrols `keys` into the bytes of a variable store and makes Secure Boot enforced from the first
/// boot on. Variables that have nothing to do with it stay.
///
/// A machine that has a platform key comes up in user mode, and then firmware enforces unless
/// `SecureBootEnable` says otherwise (edk2's `AuthVariableLib`, `InitializeSecureBootVariables`).
/// That one is set too, and custom mode, in which firmware would take unsigned updates, is left.
///
/// # Errors
/// The bytes are no variable store, or it has no room.
pub fn enrol(store: &[u8], keys: &Keys) -> Result<Vec<u8>, StoreError> {
    let mut store = Store::parse(store)?;
    let owner = keys.owner();
    for role in KeyRole::ALL {
        store.set(Variable {
            name: role.name().to_owned(),
            vendor: role.vendor(),
            attributes: KEY_ATTRIBUTES,
            time: Time::ENROLLED,
            data: signature_list(owner, keys.get(role)),
        });
    }
    for (name, vendor, value) in [
        ("SecureBootEnable", Guid::SECURE_BOOT_ENABLE, 1),
        ("CustomMode", Guid::CUSTOM_MODE, 0),
    ] {
        store.set(Variable {
            name: name.to_owned(),
            vendor,
            attributes: NON_VOLATILE | BOOT_SERVICE,
            time: Time::default(),
            data: vec![value],
        });
    }
    store.to_bytes()
}

#[cfg(test)]
mod tests;
