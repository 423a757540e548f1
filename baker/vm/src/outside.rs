//! What is asked of the guest from outside: through forwarded ports, and by its neighbours.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use baker_model::plan::{HttpCheck, SshCheck, TestPlan};

use crate::http::{self, Window};
use crate::neighbour::{self, NeighbourCheck, Neighbours};
use crate::ssh;

/// What a run brings to the guest beyond its machine: credentials for it, and what belongs to them
/// on this side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Luggage {
    /// System credentials, name and bytes.
    pub credentials: Vec<(String, Vec<u8>)>,
    /// Files with private keys of SSH, by the names that the plans have for them.
    pub identities: BTreeMap<String, PathBuf>,
    /// Certificates in DER that servers must show, by the names that the plans have for them.
    pub certificates: BTreeMap<String, Vec<u8>>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outside {
    /// A request by HTTP.
    Http(HttpCheck),
    /// A login by SSH.
    Ssh(SshCheck),
    /// What a neighbour sees.
    Neighbour(NeighbourCheck),
}

impl Outside {
    /// All checks of a plan.
    pub(crate) fn of(plan: &TestPlan) -> impl Iterator<Item = Self> {
        let http = plan.http.iter().cloned().map(Self::Http);
        let ssh = plan.ssh.iter().cloned().map(Self::Ssh);
        let neighbours = neighbour::checks(plan).into_iter().map(Self::Neighbour);
        http.chain(ssh).chain(neighbours)
    }

    /// The port of the guest that the host reaches for it, if it is the host.
    pub(crate) const fn port(&self) -> Option<u16> {
        match self {
            Self::Http(check) => Some(check.port),
            Self::Ssh(check) => Some(check.port),
            Self::Neighbour(_) => None,
        }
    }

    /// The check for people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Http(check) => http_text(check),
            Self::Ssh(check) => ssh_text(check),
            Self::Neighbour(check) => check.text(),
        }
    }

    /// Asks until it is answered as planned or the time is up; says what was found, or what was
    /// wrong last. `forwards` are pairs of a port of the guest and one of the host.
    pub(crate) async fn ask(
        &self,
        forwards: &[(u16, u16)],
        window: Window,
        (luggage, neighbours): (Arc<Luggage>, &Neighbours),
    ) -> Result<String, String> {
        let host_port = |guest: u16| {
            let known = forwards.iter().find(|(known, _)| *known == guest);
            let known = known.map(|(_, host)| *host);
            known.ok_or_else(|| format!("QEMU does not forward port {guest}"))
        };
        match self {
            Self::Http(check) => {
                let host_port = host_port(check.port)?;
                let certificate = check.tls.as_ref().map(|name| {
                    let known = luggage.certificates.get(name);
                    known.ok_or_else(|| format!("nobody made the certificate `{name}`"))
                });
                http::check(check, host_port, window, certificate.transpose()?).await
            }
            Self::Neighbour(check) => check.ask(window, neighbours).await,
            Self::Ssh(check) => {
                let host_port = host_port(check.port)?;
                let identity = luggage.identities.get(&check.key);
                let identity = identity.ok_or_else(|| format!("nobody made the key {}", check.key));
                ssh::check(check, host_port, window, identity?).await
            }
        }
    }
}

fn http_text(http: &HttpCheck) -> String {
    let mut text = format!(
        "GET {} on port {} gives {}",
        http.path, http.port, http.status
    );
    if let Some(part) = &http.contains {
        text.push_str(&format!(" with `{part}`"));
    }
    if let Some(name) = &http.tls {
        text.push_str(&format!(", by TLS with the certificate `{name}`"));
    }
    text
}

fn ssh_text(ssh: &SshCheck) -> String {
    let (user, port, key) = (&ssh.user, ssh.port, &ssh.key);
    let mut text = format!("{user} by SSH on port {port} with the key `{key}`");
    if ssh.refused {
        text.push_str(" is refused");
        return text;
    }
    text.push_str(" logs in");
    if !ssh.run.is_empty() {
        text.push_str(&format!(" and runs {}", ssh.run.join(" ")));
    }
    if let Some(part) = &ssh.contains {
        text.push_str(&format!(", which says `{part}`"));
    }
    text
}
