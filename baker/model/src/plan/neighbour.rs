//! Other machines in a test: neighbours of the machine under test.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[[test.neighbour]]`: another machine, alone with the one under test on a network of their own.
///
/// The machine under test has a card for each neighbour, behind its other ones. Neighbours are
/// small machines of baker's that answer and connect; they have IPv4 and TCP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Neighbour {
    /// Its name: letters, digits and `-`.
    pub name: String,
    /// Its address with prefix length, `10.1.0.2/24`.
    pub address: String,
    /// Where its packets for other networks go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// MAC address of the card that the machine under test has on this network;
    /// `52:54:00:6c:6b:01` for the first neighbour, and so on, when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// TCP ports on which it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<u16>,
    /// What becomes of its connections to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reaches: Vec<Reach>,
}

/// `[[test.neighbour.reaches]]`: a connection that the neighbour tries, and what must become of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reach {
    /// To this address.
    pub address: Ipv4Addr,
    /// To this TCP port.
    pub port: u16,
    /// What must become of it.
    #[serde(default, skip_serializing_if = "Outcome::is_answer")]
    pub outcome: Outcome,
    /// The neighbour that must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The address that this neighbour must see the connection come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<Ipv4Addr>,
}

/// What becomes of a connection.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is accepted.
    #[default]
    Answer,
    /// It is refused at once (a reset, or ICMP's "port unreachable").
    Refusal,
    /// Nobody says anything.
    Silence,
}

impl Outcome {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands over references"
    )]
    fn is_answer(&self) -> bool {
        *self == Self::Answer
    }
}

impl Neighbour {
    /// Its address without the prefix length.
    #[must_use]
    pub fn own_address(&self) -> Option<Ipv4Addr> {
        self.address.split_once('/')?.0.parse().ok()
    }

    /// What is wrong with it by itself, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = &self.name;
        if !(1..=32).contains(&name.len()) || name.starts_with('-') || !name.chars().all(plain) {
            return Some(format!("`{name}` is no name: use letters, digits and -"));
        }
        let prefix = self.address.split_once('/').map(|(_, prefix)| prefix);
        let prefix = prefix.and_then(|prefix| prefix.parse::<u8>().ok());
        if self.own_address().is_none() || prefix.is_none_or(|prefix| prefix > 32) {
            let address = &self.address;
            return Some(format!(
                "`{address}` is no IPv4 address with its prefix, as in 10.1.0.2/24"
            ));
        }
        let octets = |mac: &String| {
            let octets: Vec<&str> = mac.split(':').collect();
            let good = |octet: &&str| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok();
            octets.len() == 6 && octets.iter().all(good)
        };
        if let Some(card) = self.card.as_ref().filter(|card| !octets(card)) {
            return Some(format!(
                "`{card}` is no MAC address, as in 52:54:00:00:00:01"
            ));
        }
        self.reaches.iter().find_map(|reach| {
            let promised = reach.by.is_some() || reach.seen_as.is_some();
            let nobody = promised && reach.outcome != Outcome::Answer;
            nobody.then(|| {
                format!(
                    "{name} reaches nobody, but says who answers (`by`, `seen-as`): take one out"
                )
            })
        })
    }
}

/// What is wrong with all neighbours of a test together, if anything: the name of the one that it
/// is about, and the problem.
///
/// A connection that must come to nothing proves something only where it could have come to
/// something: its target must be there and listen, and something must be reached at all.
#[must_use]
pub fn problem(neighbours: &[Neighbour]) -> Option<(&str, String)> {
    for (place, neighbour) in neighbours.iter().enumerate() {
        let name = neighbour.name.as_str();
        if let Some(problem) = neighbour.problem() {
            return Some((name, problem));
        }
        if neighbours[..place].iter().any(|other| other.name == name) {
            return Some((name, format!("two neighbours are called `{name}`")));
        }
        for reach in &neighbour.reaches {
            let target = neighbours.iter().find(|other| match &reach.by {
                Some(by) => other.name == *by,
                None => other.own_address() == Some(reach.address),
            });
            match (target, &reach.by) {
                (None, Some(by)) => {
                    return Some((name, format!("{name} names `{by}`, which is no neighbour")));
                }
                (Some(target), _) if !target.serves.contains(&reach.port) => {
                    let (other, port) = (&target.name, reach.port);
                    let problem = format!(
                        "{name} tries port {port} of {other}, which does not serve it: that would \
                         prove nothing; add {port} to its `serves`"
                    );
                    return Some((name, problem));
                }
                _ => {}
            }
        }
    }
    let mut all = neighbours.iter().flat_map(|neighbour| &neighbour.reaches);
    let first = neighbours.first()?;
    (!all.any(|reach| reach.outcome == Outcome::Answer)).then(|| {
        let problem = "no neighbour has a connection that is answered, so links that are dead \
                       would pass; add [[test.neighbour.reaches]]";
        (first.name.as_str(), problem.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbours(change: impl Fn(&str) -> String) -> Option<String> {
        let text = r#"
            [[neighbour]]
            name = "left"
            address = "10.1.0.2/24"
            gateway = "10.1.0.1"
            card = "52:54:00:00:00:01"
            [[neighbour.reaches]]
            address = "10.2.0.2"
            port = 80
            by = "right"
            seen-as = "10.2.0.1"
            [[neighbour.reaches]]
            address = "10.2.0.2"
            port = 23
            outcome = "silence"
            [[neighbour]]
            name = "right"
            address = "10.2.0.2/24"
            serves = [80, 23]
        "#;
        #[derive(Deserialize)]
        struct All {
            neighbour: Vec<Neighbour>,
        }
        let all: All = toml::from_str(&change(text)).unwrap();
        problem(&all.neighbour).map(|(name, problem)| format!("{name}: {problem}"))
    }

    #[test]
    fn tests_that_would_prove_nothing_are_refused() {
        assert_eq!(neighbours(str::to_owned), None);
        let rows = [
            ("name = \"right\"", "name = \"left\"", "names `right`"),
            ("by = \"right\"", "", "two neighbours"),
            ("[80, 23]", "[80]", "does not serve it"),
            ("\"10.1.0.2/24\"", "\"10.1.0.2\"", "no IPv4 address"),
            ("\"10.1.0.2/24\"", "\"10.1.0.2/33\"", "no IPv4 address"),
            ("52:54:00:00:00:01", "52:54:00:00:00", "no MAC address"),
            ("name = \"left\"", "name = \"a b\"", "no name"),
            (
                "port = 80",
                "port = 80\noutcome = \"refusal\"",
                "says who answers",
            ),
        ];
        for (from, to, expected) in rows {
            let found = neighbours(|text| {
                let text = text.replace(from, to);
                match expected {
                    "two neighbours" => text.replace("\"right\"", "\"left\""),
                    _ => text,
                }
            });
            let found = found.unwrap_or_default();
            assert!(found.contains(expected), "{to}: {found}");
        }
        let dead = neighbours(|text| {
            let text = text.replace("by = \"right\"", "outcome = \"refusal\"");
            text.replace("seen-as = \"10.2.0.1\"", "")
        });
        assert!(dead.unwrap().contains("links that are dead"));
    }
}
