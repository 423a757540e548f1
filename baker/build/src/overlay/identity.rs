//! Who the image is: host name and os-release.

use std::collections::BTreeMap;

use baker_model::Tree;
use baker_model::recipe::Recipe;
use baker_model::tree::{Kind, Metadata, TreePath};

use super::OverlayError;
use super::accounts::read_text;
use super::entries::put;
use crate::{Spool, links};

/// Where os-release(5) wants the file itself; `/etc/os-release` is a symlink to it.
const OS_RELEASE: &str = "usr/lib/os-release";

/// The longest host name that Linux takes (`HOST_NAME_MAX`).
const HOST_NAME_LIMIT: usize = 64;

/// The credential with the host's name. systemd takes it only where there is no `/etc/hostname`;
/// a machine that is given none has the name in os-release.
const HOST_NAME: &str = "system.hostname";

/// Writes `/etc/hostname`, `/etc/hosts`, and the image's fields into os-release.
///
/// # Errors
/// See [`OverlayError`].
pub fn identity(
    tree: &mut Tree,
    recipe: &Recipe,
    spool: &Spool,
    epoch: i64,
) -> Result<(), OverlayError> {
    let host = recipe.system.host_name.as_deref().unwrap_or(&recipe.name);
    if !is_host_name(host) {
        return Err(OverlayError::HostName {
            name: host.to_owned(),
        });
    }
    let mut fields = fields(recipe)?;
    let told = recipe.credentials.iter().any(|it| it.name == HOST_NAME);
    if told {
        fields.entry("DEFAULT_HOSTNAME").or_insert(host);
    }
    let old = read_text(tree, spool, OS_RELEASE)?.unwrap_or_default();
    let mut writer = Writer { tree, spool, epoch };
    if !told {
        writer.text("etc/hostname", &format!("{host}\n"))?;
    }
    writer.text("etc/hosts", &hosts(host))?;
    writer.text(OS_RELEASE, &os_release(&old, &fields))?;
    writer.link("etc/os-release", "../usr/lib/os-release")?;
    links::settle(tree);
    Ok(())
}

struct Writer<'a> {
    tree: &'a mut Tree,
    spool: &'a Spool,
    epoch: i64,
}

impl Writer<'_> {
    fn text(&mut self, path: &str, text: &str) -> Result<(), OverlayError> {
        let path = self.path(path)?;
        let content = self.spool.add(&mut text.as_bytes(), text.len() as u64);
        let content = content.map_err(|source| OverlayError::Content {
            path: path.clone(),
            source,
        })?;
        put(
            self.tree,
            &path,
            Metadata::of_root(0o644, self.epoch),
            Kind::file(content),
        )
    }

    /// A symlink, unless a package has put one there.
    fn link(&mut self, path: &str, target: &str) -> Result<(), OverlayError> {
        let path = self.path(path)?;
        let existing = self.tree.get(&path).map(|node| &node.kind);
        if matches!(existing, Some(Kind::Symlink { .. })) {
            return Ok(());
        }
        let kind = Kind::Symlink {
            target: target.into(),
        };
        put(self.tree, &path, Metadata::of_root(0o777, self.epoch), kind)
    }

    fn path(&self, path: &str) -> Result<TreePath, OverlayError> {
        TreePath::new(path).map_err(|source| OverlayError::Path {
            path: path.to_owned(),
            source,
        })
    }
}

/// hostname(5): labels of letters, digits and `-`, none empty, none with `-` at an end.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= HOST_NAME_LIMIT && name.split('.').all(is_label)
}

/// 127.0.1.1 is Debian's address for the name of a host that has no fixed one (Debian reference 5.1.1).
fn hosts(host: &str) -> String {
    let names = match host.split_once('.') {
        Some((short, _)) => format!("{host} {short}"),
        None => host.to_owned(),
    };
    format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}

/// The fields to set, checked; the recipe's own come on top of those of baker.
fn fields(recipe: &Recipe) -> Result<BTreeMap<&str, &str>, OverlayError> {
    let mut fields = BTreeMap::from([
        ("IMAGE_ID", recipe.name.as_str()),
        ("IMAGE_VERSION", &recipe.version),
    ]);
    for (key, value) in &recipe.os_release {
        let fail = |problem| {
            let (key, value) = (key.clone(), value.clone());
            OverlayError::OsRelease {
                key,
                value,
                problem,
            }
        };
        let is_key = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if !key.starts_with(|first: char| first.is_ascii_uppercase()) || !key.bytes().all(is_key) {
            return Err(fail("a field name has only A-Z, 0-9 and _"));
        }
        if value.chars().any(char::is_control) {
            return Err(fail("a value has no control characters"));
        }
        fields.insert(key, value);
    }
    Ok(fields)
}

/// `old` with the fields set: each where its old value stood, or at the end.
fn os_release(old: &str, fields: &BTreeMap<&str, &str>) -> String {
    let mut left = fields.clone();
    let mut text = String::new();
    for line in old.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        match (fields.contains_key(key), left.remove(key)) {
            (true, Some(value)) => text += &assignment(key, value),
            // Set already: a second assignment would win over ours.
            (true, None) => {}
            (false, _) => text += &format!("{line}\n"),
        }
    }
    left.into_iter()
        .fold(text, |text, (key, value)| text + &assignment(key, value))
}

/// os-release(5): quotes around all but plain words, a backslash before what a shell would read.
fn assignment(key: &str, value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) {
        return format!("{key}={value}\n");
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    for character in value.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    format!("{key}=\"{quoted}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_replaced_in_place_and_quoted() {
        let old = "NAME=\"Debian\"\nIMAGE_ID=old\n# note\nIMAGE_ID=older\nID=debian";
        let fields = BTreeMap::from([
            ("IMAGE_ID", "tiny"),
            ("IMAGE_VERSION", "1.0.0"),
            ("PRETTY", "a \"b\" $c `d` \\ é"),
            ("NONE", ""),
        ]);
        let expected = "NAME=\"Debian\"\nIMAGE_ID=tiny\n# note\nID=debian\nIMAGE_VERSION=1.0.0\n\
            NONE=\"\"\nPRETTY=\"a \\\"b\\\" \\$c \\`d\\` \\\\ é\"\n";
        assert_eq!(os_release(old, &fields), expected);
    }

    #[test]
    fn host_names_are_checked() {
        for good in ["a", "web-1", "web.example.org", "A1"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a b", "a_b", "ä", &"a".repeat(65)] {
            assert!(!is_host_name(bad), "{bad}");
        }
        assert!(hosts("web.example.org").contains("127.0.1.1\tweb.example.org web\n"));
    }
}
