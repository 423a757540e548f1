//! Words of a command line: built with QEMU's quoting, shown with the shell's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::accelerator::Accelerator;
use crate::machine::Threads;

/// Arguments under construction.
#[derive(Debug, Default)]
pub(crate) struct Arguments(Vec<OsString>);

impl Arguments {
    /// The words.
    pub(crate) fn finish(self) -> Vec<OsString> {
        self.0
    }

    /// A word without value.
    pub(crate) fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    /// A word and its value.
    pub(crate) fn pair(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.as_ref().to_owned());
        self
    }

    /// Who runs the guest's instructions, and what CPU it sees.
    pub(crate) fn processor(&mut self, accelerator: Accelerator, threads: Threads, cpu: &str) {
        let accelerator = match (accelerator, threads) {
            (Accelerator::Kvm, _) => "kvm",
            (Accelerator::Tcg, Threads::One) => "tcg,thread=single",
            (Accelerator::Tcg, Threads::Each) => "tcg,thread=multi",
        };
        self.pair("-accel", accelerator).pair("-cpu", cpu);
    }

    /// A drive on `file`.
    pub(crate) fn drive(&mut self, options: &str, file: &Path) {
        self.options("-drive", options, &[("file", file)]);
    }

    /// A character device with `paths`.
    pub(crate) fn chardev(&mut self, options: &str, paths: &[(&str, &Path)]) {
        self.options("-chardev", options, paths);
    }

    /// Appends paths as options; a comma inside a path is doubled, as QEMU's parser wants it.
    pub(crate) fn options(&mut self, name: &str, options: &str, paths: &[(&str, &Path)]) {
        let mut text = OsString::from(options);
        for (key, path) in paths {
            text.push(format!(",{key}="));
            let mut parts = path
                .as_os_str()
                .as_encoded_bytes()
                .split(|&byte| byte == b',');
            text.push(OsStr::from_bytes(parts.next().unwrap_or_default()));
            for part in parts {
                text.push(",,");
                text.push(OsStr::from_bytes(part));
            }
        }
        self.pair(name, text);
    }
}

/// One line for a POSIX shell that runs `program` with `arguments`.
#[must_use]
pub fn shell_line(program: &Path, arguments: &[OsString]) -> String {
    let words =
        std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
    words.map(quote_word).collect::<Vec<_>>().join(" ")
}

/// One word for a POSIX shell.
pub(crate) fn quote_word(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_back_what_was_quoted() {
        let words = ["plain", "two words", "it's", "", "$HOME;`x`", "a\"b\\"];
        let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        let line = shell_line(
            Path::new("printf"),
            &[vec!["%s\\n".into()], arguments].concat(),
        );
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(line)
            .output()
            .unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            found
                .strip_suffix('\n')
                .unwrap()
                .split('\n')
                .collect::<Vec<_>>(),
            words
        );
    }
}
