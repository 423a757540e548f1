//! Public keys as OpenSSH writes them: one line of `authorized_keys` (RFC 4253 section 6.6, RFC
//! 5656 section 3.1).

use base64ct::{Base64, Encoding as _};

use crate::x509::PublicKey;

/// The line for a key, without its end; none for RSA keys, which nobody makes for logins any more.
#[must_use]
pub fn public_line(key: &PublicKey, comment: &str) -> Option<String> {
    let PublicKey::EcdsaP256(point) = key else {
        return None;
    };
    let kind = "ecdsa-sha2-nistp256";
    let mut blob = Vec::new();
    for part in [kind.as_bytes(), b"nistp256", point] {
        let length = u32::try_from(part.len()).ok()?;
        blob.extend_from_slice(&length.to_be_bytes());
        blob.extend_from_slice(part);
    }
    Some(format!("{kind} {} {comment}", Base64::encode_string(&blob)))
}
