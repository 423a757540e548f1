//! What the kernel command line asks of init.

use std::time::Duration;

use baker_contract::{ON_CORRUPTION_KEY, ON_FAILURE_KEY, ROOT_HASH_KEY, ROOT_WAIT_KEY};

/// How long init waits for the root's disk when the command line does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// The longest wait that can be asked for.
const LONGEST_WAIT: u64 = 3600;

/// What init does when it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Power off: for tests, and for machines that people look after.
    PowerOff,
    /// Reboot: lets boot counting fall back to the other slot.
    Reboot,
}

/// What the kernel does when a block does not match its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCorruption {
    /// Kernel panic.
    Panic,
    /// Restart.
    Restart,
    /// The read fails.
    Eio,
}

/// A SHA-256 root hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootHash([u8; 32]);

impl RootHash {
    /// Parses 64 hex digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Lower-case hex digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Partition UUIDs of root and hash tree, in the byte order of their text form: the first and
    /// the last 128 bits, as the Discoverable Partitions Specification has it.
    pub fn partition_ids(&self) -> ([u8; 16], [u8; 16]) {
        let mut ids = ([0; 16], [0; 16]);
        ids.0.copy_from_slice(&self.0[..16]);
        ids.1.copy_from_slice(&self.0[16..]);
        ids
    }
}

/// Lower-case hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The settings of init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The root hash, or what is wrong with it.
    pub root_hash: Result<RootHash, String>,
    /// What to do when giving up.
    pub on_failure: OnFailure,
    /// What the kernel does about corruption.
    pub on_corruption: OnCorruption,
    /// How long to wait for the disk.
    pub root_wait: Duration,
    /// `init=`, the init of the root.
    pub init: Option<String>,
}

impl Settings {
    /// Reads the words of a command line. Never fails: what is wrong shows where it is needed, so
    /// that [`Settings::on_failure`] is obeyed even then. Of a repeated word the last counts, as
    /// in the kernel, except for the root hash.
    pub fn parse(text: &str) -> Self {
        let mut words = words(text);
        // What follows is init's, and none of ours.
        let end = words.iter().position(|word| word == "--");
        words.truncate(end.unwrap_or(words.len()));
        let last = |key| values(&words, key).last();
        Self {
            root_hash: root_hash(&words),
            on_failure: match last(ON_FAILURE_KEY) {
                Some("reboot") => OnFailure::Reboot,
                _ => OnFailure::PowerOff,
            },
            on_corruption: match last(ON_CORRUPTION_KEY) {
                Some("restart") => OnCorruption::Restart,
                Some("eio") => OnCorruption::Eio,
                _ => OnCorruption::Panic,
            },
            root_wait: last(ROOT_WAIT_KEY)
                .and_then(|seconds| seconds.parse().ok())
                .map_or(DEFAULT_WAIT, |seconds: u64| {
                    Duration::from_secs(seconds.min(LONGEST_WAIT))
                }),
            init: last("init")
                .filter(|path| path.starts_with('/'))
                .map(str::to_owned),
        }
    }
}

/// The one root hash. Two different ones are refused: firmware can append words to the signed
/// command line, and must not be able to choose another root that way.
fn root_hash(words: &[String]) -> Result<RootHash, String> {
    let mut found = None;
    for text in values(words, ROOT_HASH_KEY) {
        let hash = RootHash::parse(text)
            .ok_or_else(|| format!("{ROOT_HASH_KEY}={text} is not 64 hex digits"))?;
        if found.is_some_and(|first| first != hash) {
            return Err(format!(
                "{ROOT_HASH_KEY} is given twice with different values"
            ));
        }
        found = Some(hash);
    }
    found.ok_or_else(|| format!("{ROOT_HASH_KEY} is missing"))
}

fn values<'a>(words: &'a [String], key: &'static str) -> impl Iterator<Item = &'a str> {
    words
        .iter()
        .filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Splits at white space outside double quotes and drops the quotes, as `next_arg` in the
/// kernel's `lib/cmdline.c`.
pub fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match (character, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (c, _) if c.is_whitespace() && !quoted => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789ABCDEF";

    #[test]
    fn words_are_read_as_the_kernel_reads_them() {
        let text = format!(
            "quiet  \"init=/odd name\" baker.on-failure=reboot console=ttyS0 baker.roothash={HASH} \
             baker.on-corruption=eio baker.root-wait=5 -- baker.on-failure=poweroff\n"
        );
        let settings = Settings::parse(&text);
        assert_eq!(settings.root_hash.unwrap().hex(), HASH.to_ascii_lowercase());
        assert_eq!(settings.on_failure, OnFailure::Reboot);
        assert_eq!(settings.on_corruption, OnCorruption::Eio);
        assert_eq!(settings.root_wait, Duration::from_secs(5));
        assert_eq!(settings.init.as_deref(), Some("/odd name"));
    }

    #[test]
    fn defaults_stand_for_what_is_not_said() {
        let settings = Settings::parse("baker.on-failure=explode baker.root-wait=x init=relative");
        assert_eq!(settings.root_hash.unwrap_err(), "baker.roothash is missing");
        assert_eq!(settings.on_failure, OnFailure::PowerOff);
        assert_eq!(settings.on_corruption, OnCorruption::Panic);
        assert_eq!(settings.root_wait, DEFAULT_WAIT);
        assert_eq!(settings.init, None);
    }

    #[test]
    fn a_root_hash_is_given_once_and_whole() {
        let other = "f".repeat(64);
        let rows = [
            (
                format!(
                    "baker.roothash={HASH} baker.roothash={}",
                    HASH.to_lowercase()
                ),
                true,
            ),
            (
                format!("baker.roothash={HASH} baker.roothash={other}"),
                false,
            ),
            ("baker.roothash=".to_owned(), false),
            (format!("baker.roothash={HASH}0"), false),
            (format!("baker.roothash={}", "ü".repeat(32)), false),
            (format!("baker.roothash={}", "+f".repeat(32)), false),
            (format!("xbaker.roothash={HASH}"), false),
        ];
        for (text, good) in rows {
            assert_eq!(Settings::parse(&text).root_hash.is_ok(), good, "{text}");
        }
    }

    #[test]
    fn partition_ids_are_the_two_halves() {
        let (root, tree) = RootHash::parse(HASH).unwrap().partition_ids();
        assert_eq!(hex(&root), "00112233445566778899aabbccddeeff");
        assert_eq!(hex(&tree), "0123456789abcdef0123456789abcdef");
    }
}
