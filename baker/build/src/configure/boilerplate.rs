//! The parts of maintainer scripts that debhelper writes.
//!
//! Each such part stands between two marker comments that name the tool. Unit names and the like
//! are taken out of it, and what is left must be a text whose digest the ledger knows: then it is
//! also known what the part does.

use baker_model::Digest;

const BEGIN: &str = "# Automatically added by ";
const END: &str = "# End automatically added section";

/// A script taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The generated parts, in order.
    pub(super) sections: Vec<Section>,
    /// Everything else.
    pub(super) rest: String,
}

/// One generated part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// The tool that wrote it, without its version.
    pub(super) tool: String,
    /// Its text with the words below taken out.
    pub(super) normal: String,
    /// Digest of that text.
    pub(super) digest: Digest,
    /// The words taken out, in order, each once.
    pub(super) words: Vec<String>,
}

/// Takes a script apart; a part that never ends makes the whole rest of the script its own.
pub(super) fn take_apart(script: &str) -> Parts {
    let (mut sections, mut rest) = (Vec::new(), String::new());
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        let Some(tool) = line.trim().strip_prefix(BEGIN) else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let body: Vec<&str> = lines
            .by_ref()
            .take_while(|line| line.trim() != END)
            .collect();
        let tool = tool.split('/').next().unwrap_or(tool);
        sections.push(Section::new(tool, &body));
    }
    Parts { sections, rest }
}

/// True when nothing in a script can have an effect: comments, `set`, `exit 0`.
pub(super) fn is_inert(rest: &str) -> bool {
    rest.lines().map(str::trim).all(|line| {
        line.is_empty()
            || line.starts_with('#')
            || matches!(
                line,
                "set -e" | "set -eu" | "set -u" | "exit 0" | ":" | "true"
            )
    })
}

impl Section {
    fn new(tool: &str, body: &[&str]) -> Self {
        let (mut words, mut normal) = (Vec::new(), String::new());
        let mut last = String::new();
        for line in body {
            let line = normalise(line.trim_end(), &mut words);
            // Several conffiles or slaves give several lines that are now the same.
            if line != last {
                normal.push_str(&line);
                normal.push('\n');
                last = line;
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        words.retain(|word| seen.insert(word.clone()));
        let digest = Digest::of(normal.as_bytes());
        Self {
            tool: tool.to_owned(),
            normal,
            digest,
            words,
        }
    }
}

/// Moves what older versions of a package had in other places, whichever of its commands.
const HELPER: &str = "dpkg-maintscript-helper ";

/// Commands whose words differ from package to package, up to what follows these words.
const COMMANDS: [(&str, &str); 7] = [
    ("LOCAL_APP_PROFILE=\"/etc/apparmor.d/local/", "\""),
    ("APP_PROFILE=\"/etc/apparmor.d/", "\""),
    (
        "systemd-sysusers ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} ",
        "\n",
    ),
    (
        "systemd-tmpfiles ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} --create ",
        " ||",
    ),
    ("pypy3compile -p ", " ||"),
    ("py3compile -p ", "\n"),
    (HELPER, " --"),
];

/// One line with its words replaced by `*`.
fn normalise(line: &str, words: &mut Vec<String>) -> String {
    for (command, end) in COMMANDS {
        if let Some((head, tail)) = line.split_once(command) {
            let at = tail.find(end).unwrap_or(tail.len());
            words.extend(tail[..at].split_ascii_whitespace().map(str::to_owned));
            return format!("{head}{command}*{}", &tail[at..]);
        }
    }
    let line = line.replace("${DPKG_ROOT:-}", "$DPKG_ROOT");
    let line = init_script(&line, words);
    let mut parts = line.split('\'');
    let mut normal = parts.next().unwrap_or_default().to_owned();
    // Odd parts are quoted; an unclosed quote keeps its text.
    while let Some(quoted) = parts.next() {
        match parts.next() {
            Some(after) => {
                words.push(quoted.to_owned());
                normal.push_str("'*'");
                normal.push_str(after);
            }
            None => normal.push_str(&format!("'{quoted}")),
        }
    }
    // As many units as a package has.
    while normal.contains("'*' '*'") {
        normal = normal.replace("'*' '*'", "'*'");
    }
    normal
}

/// Takes the name of a System V script out of a line.
fn init_script(line: &str, words: &mut Vec<String>) -> String {
    let Some(start) = line
        .find("/etc/init.d/")
        .map(|at| at + "/etc/init.d/".len())
    else {
        return named_service(line, words);
    };
    let end = line[start..]
        .find(['"', ' '])
        .map_or(line.len(), |length| start + length);
    format!("{}*{}", &line[..start], &line[end..])
}

fn named_service(line: &str, words: &mut Vec<String>) -> String {
    let command = line.trim_start();
    let head = &line[..line.len() - command.len()];
    if let Some(rest) = command.strip_prefix("update-rc.d ") {
        // Numbers and levels may follow the verb; the header of the script says the same.
        let mut rest = rest.split(' ');
        words.extend(rest.next().map(str::to_owned));
        return format!("{head}update-rc.d * {}", rest.next().unwrap_or_default());
    }
    // Starts and stops, whatever is done when that fails.
    match command.starts_with("invoke-rc.d ") {
        true => format!("{head}invoke-rc.d *"),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#!/bin/sh\nset -e\n# Automatically added by dh_installsystemd/13.1\n\
        if x; then\n\tdeb-systemd-helper unmask 'a.service' >/dev/null || true\nfi\n\
        # End automatically added section\nexit 0\n";

    #[test]
    fn the_same_part_of_other_packages_has_the_same_digest() {
        let one = take_apart(SCRIPT);
        let other = take_apart(
            &SCRIPT
                .replace("a.service", "b.socket")
                .replace("13.1", "13.2"),
        );
        assert_eq!(one.sections[0].digest, other.sections[0].digest);
        assert_eq!(other.sections[0].words, ["b.socket"]);
        assert_eq!(one.sections[0].tool, "dh_installsystemd");
        assert!(is_inert(&one.rest));
        let changed = take_apart(&SCRIPT.replace("|| true", "|| false"));
        assert_ne!(one.sections[0].digest, changed.sections[0].digest);
    }

    #[test]
    fn words_of_commands_are_taken_out() {
        let mut words = Vec::new();
        let line =
            "  systemd-tmpfiles ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} --create a.conf b.conf || true";
        assert!(normalise(line, &mut words).ends_with("--create * || true"));
        assert_eq!(words, ["a.conf", "b.conf"]);
        assert_eq!(
            normalise("\tupdate-rc.d dbus defaults >/dev/null", &mut words),
            "\tupdate-rc.d * defaults"
        );
        assert_eq!(words.last().unwrap(), "dbus");
        assert_eq!(
            normalise(
                "\tinvoke-rc.d --skip-systemd-native a $x || exit 1",
                &mut words
            ),
            "\tinvoke-rc.d *"
        );
        let line = "\tdeb-systemd-invoke start 'a.service' 'b.socket' 'c.timer' || true";
        assert_eq!(
            normalise(line, &mut words),
            "\tdeb-systemd-invoke start '*' || true"
        );
        assert_eq!(
            normalise("if [ -x \"/etc/init.d/dbus\" ]; then", &mut words),
            "if [ -x \"/etc/init.d/*\" ]; then"
        );
    }

    #[test]
    fn anything_else_is_not_inert() {
        assert!(!is_inert("set -e\nrm -rf /x\n"));
        let open = take_apart("# Automatically added by dh_x\nrm -rf /\n");
        assert_eq!(open.sections.len(), 1);
        assert!(!is_inert("exit 0; rm x"));
    }
}
