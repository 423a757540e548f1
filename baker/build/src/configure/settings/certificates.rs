//! The authorities that programs of the image trust: those of packages and of the recipe.
//!
//! Made as `update-ca-certificates` makes it: one file of all certificates, those of packages
//! first, and a link to each of them beside it. Left out are the links by hash; what looks for
//! authorities by hash (OpenSSL without a file) finds the file too, by `/usr/lib/ssl/cert.pem`.

use baker_model::Recipe;
use baker_model::recipe::CERTIFICATES;
use base64ct::{Base64, Encoding as _};

use crate::configure::error::ConfigureError;
use crate::configure::image::{Access, Image};

const EFFECT: &str = "certificates";
const OF_PACKAGES: &str = "/usr/share/ca-certificates";
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Puts the recipe's certificates into the bundle, once all of them have been looked at.
pub(super) fn trust(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    for file in recipe.system.certificate_files() {
        let text = image.read_text(&file.path)?.unwrap_or_default();
        if let Err(problem) = check(&text) {
            let source = file.source.unwrap_or_default();
            return Err(ConfigureError::Setting {
                table: "[system] certificates",
                problem: format!("{source} {problem}"),
            });
        }
    }
    if recipe.system.certificates.is_empty() {
        return Ok(());
    }
    write_bundle(image)
}

/// Writes the bundle anew of all that is there.
pub(in crate::configure) fn write_bundle(image: &mut Image<'_>) -> Result<(), ConfigureError> {
    let mut paths = Vec::new();
    collect(image, OF_PACKAGES, &mut paths)?;
    collect(image, CERTIFICATES, &mut paths)?;
    let mut bundle = String::new();
    for path in paths {
        let text = image.read_text(&path)?.unwrap_or_default();
        bundle.push_str(&text);
        if !text.ends_with('\n') {
            bundle.push('\n');
        }
        let name = path.rsplit('/').next().unwrap_or(&path);
        let stem = name
            .trim_end_matches(".crt")
            .replace(['(', ')'], "=")
            .replace([' ', ','], "_");
        image.symlink(&format!("/etc/ssl/certs/{stem}.pem"), &path, EFFECT)?;
    }
    image.write(BUNDLE, bundle, Access::root(0o644), EFFECT)?;
    let found = "/usr/lib/ssl/cert.pem";
    if image.is_directory("/usr/lib/ssl")? && image.node_itself(found)?.is_none() {
        image.symlink(found, BUNDLE, EFFECT)?;
    }
    Ok(())
}

/// All `*.crt` below a folder, sorted.
fn collect(image: &Image<'_>, folder: &str, paths: &mut Vec<String>) -> Result<(), ConfigureError> {
    for name in image.names(folder)? {
        let path = format!("{folder}/{name}");
        if image.is_directory(&path)? {
            collect(image, &path, paths)?;
        } else if name.ends_with(".crt") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Whether a text is PEM of certificates and of nothing else.
fn check(text: &str) -> Result<(), &'static str> {
    if text.contains("PRIVATE KEY") {
        return Err("holds a private key: an image is no place for it");
    }
    let mut rest = text;
    let mut count = 0;
    while let Some((_, block)) = rest.split_once(BEGIN) {
        let (body, after) = block
            .split_once(END)
            .ok_or("has a certificate without an end")?;
        let body: String = body.split_whitespace().collect();
        let der = Base64::decode_vec(&body).map_err(|_| "has a certificate that is not base64")?;
        if !is_sequence(&der) {
            return Err("has a certificate that is none: it is no DER sequence");
        }
        count += 1;
        rest = after;
    }
    match count {
        0 => Err("holds no certificate: PEM is wanted (openssl x509 -inform der -in FILE)"),
        _ => Ok(()),
    }
}

/// A DER sequence (X.690) that fills all bytes, with a length of two or three bytes.
fn is_sequence(der: &[u8]) -> bool {
    match der {
        [0x30, 0x82, high, low, body @ ..] => {
            body.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        [0x30, 0x81, length, body @ ..] => body.len() == usize::from(*length),
        _ => false,
    }
}
