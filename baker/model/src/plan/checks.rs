//! What a test can ask.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::Mode;

/// `[test.reboot]`: the guest is restarted once it has settled, and all is asked again.
///
/// Before the restart the probe writes a marker into each folder named here (made when missing);
/// after it, the marker must still be there, or be gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Reboot {
    /// Folders whose content survives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub survives: Vec<String>,
    /// Folders whose content does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vanishes: Vec<String>,
}

/// One HTTP request from the host to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpCheck {
    /// Port inside the guest.
    pub port: u16,
    /// Path with leading slash.
    #[serde(default = "slash")]
    pub path: String,
    /// Status that must be answered.
    #[serde(default = "ok_status")]
    pub status: u16,
    /// Text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// By TLS, with the certificate of this name that a `[[test.credential]]` gave the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
}

/// One login by SSH from the host to the guest, by OpenSSH's own client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SshCheck {
    /// Port inside the guest.
    #[serde(default = "ssh_port", skip_serializing_if = "is_ssh_port")]
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Name of the key that is shown. It is made for this run; a `[[test.credential]]` with the
    /// same `ssh-key` lets it in, without one it belongs to a stranger.
    pub key: String,
    /// Program of the image and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
    /// Text that its output must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// True when the key must be refused.
    #[serde(default, skip_serializing_if = "is_no")]
    pub refused: bool,
}

const fn ssh_port() -> u16 {
    22
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
const fn is_ssh_port(port: &u16) -> bool {
    *port == 22
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
const fn is_no(flag: &bool) -> bool {
    !*flag
}

fn slash() -> String {
    "/".to_owned()
}

const fn ok_status() -> u16 {
    200
}

/// A port that something inside listens on: `tcp:22`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(tcp|udp):[0-9]{1,5}$"))]
pub struct Listening {
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol.name(), self.port)
    }
}

impl FromStr for Listening {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a port; write it as \"tcp:22\" or \"udp:67\"");
        let (protocol, port) = text.split_once(':').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong()),
        };
        let port = port.parse().ok().filter(|port| *port > 0);
        port.map(|port| Self { protocol, port }).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Listening {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Listening> for String {
    fn from(listening: Listening) -> Self {
        listening.to_string()
    }
}

/// `[[test.command]]`: a program of the image, run as root without a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommandCheck {
    /// Absolute path of the program and its arguments.
    pub run: Vec<String>,
    /// Exit code that it must have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exit_code: u8,
    /// Text that its standard output must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Its whole standard output, white space at both ends not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Seconds that it may take.
    #[serde(default = "command_seconds")]
    pub seconds: u32,
    /// True when it is asked only of a machine that has been started before: after the restart of
    /// `[test.reboot]`, and of the new version of an update.
    #[serde(default, skip_serializing_if = "is_no")]
    pub after_restart: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
const fn is_zero(code: &u8) -> bool {
    *code == 0
}

const fn command_seconds() -> u32 {
    30
}

/// `[[test.file]]`: what must be at a path. What is not given is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileCheck {
    /// Absolute path in the running system.
    pub path: String,
    /// Whether anything is there.
    #[serde(default)]
    pub state: FileState,
    /// The whole content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Text that the content must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Permissions, set-id and sticky bits included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Owner, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Group, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Whether there is a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// It must be there.
    #[default]
    Present,
    /// Nothing may be there.
    Absent,
}

/// `[test.journal]`: nothing at priority err or worse, but for what is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct JournalCheck {
    /// Entries that are known and excused.
    #[serde(rename = "allow", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<JournalAllowance>,
}

/// `[[test.journal.allow]]`: one excused kind of entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JournalAllowance {
    /// Text that the entry's message contains.
    pub contains: String,
    /// Why it is no fault.
    pub reason: String,
    /// The last day on which it is excused, `YYYY-MM-DD` in UTC: afterwards it fails again.
    pub until: Day,
}

/// A day of the calendar, `YYYY-MM-DD`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl Day {
    /// The day in UTC of a moment, given in seconds since 1970-01-01.
    #[must_use]
    pub fn of_unix(seconds: u64) -> Self {
        // Days since 0000-03-01 of the proleptic Gregorian calendar, in eras of 400 years: with
        // the year beginning in March the leap day is its last.
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let small = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        Self {
            year: u16::try_from(year).unwrap_or(u16::MAX),
            month: small(month),
            day: small(day_of_year - (153 * shifted + 2) / 5 + 1),
        }
    }
}

impl Day {
    /// The year.
    #[must_use]
    pub const fn year(self) -> u16 {
        self.year
    }

    /// The month, 1 to 12.
    #[must_use]
    pub const fn month(self) -> u8 {
        self.month
    }

    /// The day of the month, 1 to 31.
    #[must_use]
    pub const fn day(self) -> u8 {
        self.day
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || format!("`{text}` is not a day; write it as \"2027-01-31\"");
        let fields: Vec<&str> = text.split('-').collect();
        let [year, month, day] = fields[..] else {
            return Err(wrong());
        };
        let whole = year.len() == 4 && month.len() == 2 && day.len() == 2;
        let parsed = (year.parse().ok(), month.parse().ok(), day.parse().ok());
        let (Some(year), Some(month), Some(day), true) = (parsed.0, parsed.1, parsed.2, whole)
        else {
            return Err(wrong());
        };
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let longest = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => 0,
        };
        let real = (1..=longest).contains(&day);
        real.then_some(Self { year, month, day }).ok_or_else(wrong)
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Result<Day, String> {
        Day::try_from(text.to_owned())
    }

    #[test]
    fn days_are_of_the_calendar() {
        let rows = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_795_305_600, "2026-11-22"),
            (4_102_444_800, "2100-01-01"),
        ];
        for (seconds, text) in rows {
            assert_eq!(Day::of_unix(seconds).to_string(), text);
            assert_eq!(day(text), Ok(Day::of_unix(seconds)));
        }
        for wrong in [
            "2026-02-29",
            "2026-13-01",
            "2026-1-01",
            "2026-04-31",
            "soon",
            "2026-00-10",
        ] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
        assert!(day("2026-11-22") < day("2026-12-01"));
    }

    #[test]
    fn ports_are_written_with_their_protocol() {
        assert_eq!("udp:67".parse::<Listening>().unwrap().to_string(), "udp:67");
        for wrong in ["22", "tcp:", "tcp:0", "tcp:65536", "sctp:1"] {
            assert!(wrong.parse::<Listening>().is_err(), "{wrong}");
        }
    }
}
