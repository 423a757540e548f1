//! What a machine under test is told when it starts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[[test.credential]]`: a system credential, with exactly one of the four sources. Keys and
/// certificates are made for one run and mean nothing after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestCredential {
    /// Its name.
    pub name: String,
    /// The text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The public half of the SSH key of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
    /// The TLS certificate of this name, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The private key of the TLS certificate of this name, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
}

/// Where the bytes of a credential come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialSource<'a> {
    /// The plan.
    Value(&'a str),
    /// The public half of this SSH key.
    SshKey(&'a str),
    /// This TLS certificate.
    Certificate(&'a str),
    /// The key of this TLS certificate.
    PrivateKey(&'a str),
}

impl TestCredential {
    /// Where its bytes come from; none when the plan does not name exactly one place.
    #[must_use]
    pub fn source(&self) -> Option<CredentialSource<'_>> {
        let sources = [
            self.value.as_deref().map(CredentialSource::Value),
            self.ssh_key.as_deref().map(CredentialSource::SshKey),
            self.certificate
                .as_deref()
                .map(CredentialSource::Certificate),
            self.private_key
                .as_deref()
                .map(CredentialSource::PrivateKey),
        ];
        let mut given = sources.into_iter().flatten();
        given.next().filter(|_| given.next().is_none())
    }
}
