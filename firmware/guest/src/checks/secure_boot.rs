//! Whether the firmware lets only signed programs start.

use std::fs;

use super::Answer;

/// There only when UEFI started the kernel.
const EFI: &str = "/sys/firmware/efi";

/// Where systemd mounts the variables of the firmware.
const VARIABLES: &str = "/sys/firmware/efi/efivars";

/// `EFI_GLOBAL_VARIABLE` of the UEFI specification.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// What the boot loader told an x86 kernel.
const BOOT_PARAMETERS: &str = "/sys/kernel/boot_params/data";

/// Place of `secure_boot` in `struct boot_params`, `Documentation/arch/x86/zero-page.rst`.
const BOOT_PARAMETER: usize = 0x1ec;

/// State of Secure Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    /// It is enforced.
    Enabled,
    /// It is not, or keys can be replaced without proof.
    Disabled,
    /// Nothing in the system says.
    Unknown,
    /// UEFI did not start the kernel.
    None,
}

impl SecureBoot {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
            Self::None => "none",
        }
    }
}

/// Reads the state and how it is known.
///
/// First the firmware's own variables. An image whose kernel lacks efivarfs does not have them;
/// there the kernel tells what its EFI stub read of the same variables before it left the
/// firmware. A mount of our own would not help: systemd has tried, before anything else.
pub fn secure_boot() -> SecureBoot {
    state().0
}

/// The firmware enforces Secure Boot.
pub fn check() -> Answer {
    let (state, why) = state();
    Answer::new(
        state == SecureBoot::Enabled,
        format!("{} ({why})", state.name()),
    )
}

fn state() -> (SecureBoot, String) {
    if fs::metadata(EFI).is_err() {
        return (SecureBoot::None, "UEFI did not start the kernel".into());
    }
    let variable = |name: &str| flag(&fs::read(format!("{VARIABLES}/{name}-{GLOBAL}")).ok()?);
    if let (Some(enforced), Some(setup)) = (variable("SecureBoot"), variable("SetupMode")) {
        let why = format!(
            "SecureBoot={} SetupMode={}",
            u8::from(enforced),
            u8::from(setup)
        );
        let state = match (enforced, setup) {
            (true, false) => SecureBoot::Enabled,
            _ => SecureBoot::Disabled,
        };
        return (state, why);
    }
    match fs::read(BOOT_PARAMETERS) {
        Ok(bytes) => (of_stub(&bytes), "as the EFI stub told the kernel".into()),
        Err(_) => (SecureBoot::Unknown, "the kernel has no efivarfs".into()),
    }
}

/// A variable of one byte, behind the four of its attributes.
fn flag(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [_, _, _, _, value] => Some(*value == 1),
        _ => None,
    }
}

/// `enum efi_secureboot_mode` of the kernel's `include/linux/efi.h`.
fn of_stub(parameters: &[u8]) -> SecureBoot {
    match parameters.get(BOOT_PARAMETER) {
        Some(3) => SecureBoot::Enabled,
        Some(2) => SecureBoot::Disabled,
        _ => SecureBoot::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_boot_parameters_are_understood() {
        assert_eq!(flag(&[6, 0, 0, 0, 1]), Some(true));
        assert_eq!(flag(&[6, 0, 0, 0, 0]), Some(false));
        assert_eq!(flag(&[6, 0, 0, 0]), None);
        let mut parameters = vec![0; 4096];
        assert_eq!(of_stub(&parameters), SecureBoot::Unknown);
        parameters[0x1ec] = 3;
        assert_eq!(of_stub(&parameters), SecureBoot::Enabled);
        parameters[0x1ec] = 2;
        assert_eq!(of_stub(&parameters), SecureBoot::Disabled);
        assert_eq!(of_stub(&[]), SecureBoot::Unknown);
    }
}
