//! `[[network]]` and `[resolver]`: addresses and names.

use std::fmt::Write as _;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::find_value;
use super::{FileEntry, Recipe, RecipeError};

/// `[[network]]`: how the cards that match are configured, by systemd-networkd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Name of the file, `/etc/systemd/network/NN-NAME.network`. Earlier tables win.
    pub name: String,
    /// Patterns of interface names (`en*`), or MAC addresses.
    #[serde(rename = "match")]
    pub cards: Vec<String>,
    /// Which addresses are asked for.
    #[serde(default, skip_serializing_if = "Dhcp::is_none")]
    pub dhcp: Dhcp,
    /// Fixed addresses with their prefix length, `192.0.2.7/24`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
    /// Where packets for the rest of the world go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<IpAddr>,
    /// Servers of names on this network; obeyed by systemd-resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Largest packet in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// False when the machine counts as online without it.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub required: bool,
}

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dhcp {
    /// None.
    #[default]
    No,
    /// IPv4 and IPv6.
    Yes,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Dhcp {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands over references"
    )]
    fn is_none(&self) -> bool {
        *self == Self::No
    }

    const fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

const fn yes() -> bool {
    true
}

// Left out when true, as in a recipe that says nothing.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
const fn is_true(flag: &bool) -> bool {
    *flag
}

/// `[resolver]`: how names are found. With systemd-resolved in the image these are its settings,
/// otherwise they are a fixed `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Resolver {
    /// Servers.
    pub dns: Vec<IpAddr>,
    /// Domains that short names are looked for in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
}

impl Network {
    /// The table as a file of systemd-networkd; `place` is its place among the tables.
    #[must_use]
    pub fn file(&self, place: usize) -> FileEntry {
        let mut text = String::from("[Match]\n");
        let (macs, names): (Vec<&str>, Vec<&str>) = self
            .cards
            .iter()
            .map(String::as_str)
            .partition(|card| is_mac(card));
        for (key, words) in [("MACAddress", macs), ("Name", names)] {
            if !words.is_empty() {
                // Writing to a string cannot fail.
                writeln!(text, "{key}={}", words.join(" ")).unwrap_or_default();
            }
        }
        if self.mtu.is_some() || !self.required {
            text.push_str("\n[Link]\n");
        }
        if let Some(mtu) = self.mtu {
            writeln!(text, "MTUBytes={mtu}").unwrap_or_default();
        }
        if !self.required {
            text.push_str("RequiredForOnline=no\n");
        }
        writeln!(text, "\n[Network]\nDHCP={}", self.dhcp.word()).unwrap_or_default();
        for address in &self.address {
            writeln!(text, "Address={address}").unwrap_or_default();
        }
        for (key, addresses) in [("Gateway", &self.gateway), ("DNS", &self.dns)] {
            for address in addresses {
                writeln!(text, "{key}={address}").unwrap_or_default();
            }
        }
        let number = 20 + place;
        let path = format!("/etc/systemd/network/{number:02}-{}.network", self.name);
        FileEntry::text(&path, text)
    }
}

fn is_mac(text: &str) -> bool {
    let octets: Vec<&str> = text.split(':').collect();
    let is_octet = |octet: &&str| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok();
    octets.len() == 6 && octets.iter().all(is_octet)
}

/// Checks what TOML cannot.
pub(super) fn check(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    if recipe.networks.len() > 50 {
        return Err(RecipeError::at(
            text,
            0,
            "there are more than 50 [[network]]",
        ));
    }
    for (place, network) in recipe.networks.iter().enumerate() {
        let refuse =
            |value: &str, problem| Err(RecipeError::at(text, find_value(text, value), problem));
        let name = &network.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return refuse(
                name,
                format!("`{name}` is no name: use letters, digits and -"),
            );
        }
        if recipe.networks[..place]
            .iter()
            .any(|other| other.name == *name)
        {
            return refuse(name, format!("two networks are called `{name}`"));
        }
        let is_pattern =
            |card: &String| !card.is_empty() && card.chars().all(|c| c.is_ascii_graphic());
        if network.cards.is_empty() || !network.cards.iter().all(is_pattern) {
            let problem = format!("`match` of the network `{name}` names no card: write [\"en*\"]");
            return refuse(name, problem);
        }
        if let Some(address) = network.address.iter().find(|address| !is_subnet(address)) {
            let problem = format!("`{address}` is no address with its prefix, as in 192.0.2.7/24");
            return refuse(address, problem);
        }
        if network.mtu.is_some_and(|mtu| mtu < 68) {
            return refuse(
                name,
                format!("the network `{name}` has an mtu below 68 bytes"),
            );
        }
    }
    let domains = recipe
        .resolver
        .iter()
        .flat_map(|resolver| &resolver.domains);
    for domain in domains {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if domain.is_empty() || !domain.chars().all(plain) {
            let problem = format!("`{domain}` is no domain");
            return Err(RecipeError::at(text, find_value(text, domain), problem));
        }
    }
    Ok(())
}

fn is_subnet(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
}
