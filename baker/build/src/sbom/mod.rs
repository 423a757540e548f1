//! The bills of materials of a release: SPDX 2.3 and `CycloneDX` 1.6, both JSON.
//!
//! Takes an [`Inventory`] and what the release is called; gives the bytes of the files. Opens
//! nothing and knows no clock: the time is the lock's epoch, and every id follows from the lock.
//!
//! SPDX names the regular files, `CycloneDX` also directories, links and devices, each with its
//! owner (`baker:owner`); [`read`] takes the inventory back out of it.

mod cyclonedx;
mod purl;
mod read;
mod spdx;
#[cfg(test)]
mod tests;

use baker_model::digest::uuid_text;
use baker_model::{Digest, Lock, Recipe};

use crate::inventory::Inventory;

pub use read::{ReadError, Record, read};

/// Who supplies what baker itself brings.
const OWN_NAME: &str = "baker";

/// What the documents are about, and by whom.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The recipe as built.
    pub recipe: &'a Recipe,
    /// The lock as built.
    pub lock: &'a Lock,
    /// What is in the release.
    pub inventory: &'a Inventory,
    /// The text of the root's `os-release`.
    pub os_release: &'a [u8],
    /// Version of baker itself.
    pub baker_version: &'a str,
}

/// The documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// SPDX 2.3 JSON.
    pub spdx: Vec<u8>,
    /// `CycloneDX` 1.6 JSON.
    pub cyclonedx: Vec<u8>,
}

/// Writes both documents.
#[must_use]
pub fn sbom(request: Request<'_>) -> Documents {
    let (spdx, cyclonedx) = std::thread::scope(|scope| {
        let spdx = scope.spawn(|| json(&spdx::document(&request)));
        let cyclonedx = json(&cyclonedx::document(&request));
        (spdx.join(), cyclonedx)
    });
    Documents {
        spdx: spdx.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        cyclonedx,
    }
}

fn json(document: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).expect("a document holds only plain data");
    bytes.push(b'\n');
    bytes
}

impl Request<'_> {
    /// A UUID for `what`. Another baker may write another document about the same lock.
    fn uuid(&self, what: &str) -> String {
        let label = format!("sbom {what} of baker {}", self.baker_version);
        uuid_text(self.lock.digest().derive(&label).to_uuid_bytes())
    }

    /// A field of `os-release`, quotes dropped.
    fn os_field(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(self.os_release);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    }

    /// The epoch as both formats write times (RFC 3339, UTC).
    fn created(&self) -> String {
        let (days, second) = (
            self.lock.epoch.div_euclid(86_400),
            self.lock.epoch.rem_euclid(86_400),
        );
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Digest of the guest program by the lock.
    fn guest(&self) -> Digest {
        self.lock.guest.sha256
    }
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar, counted in cycles of
/// 400 years that begin on 1 March, so that the leap day is the last of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (cycle, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

/// A maintainer's name and address.
fn person(text: &str) -> (&str, Option<&str>) {
    match text.split_once('<') {
        Some((name, address)) => (
            name.trim().trim_matches('"'),
            Some(address.trim_end_matches('>').trim()),
        ),
        None => (text.trim(), None),
    }
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
