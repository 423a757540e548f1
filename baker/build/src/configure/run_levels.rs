//! Links of `/etc/rc?.d`, as `update-rc.d NAME defaults` makes them.
//!
//! Only for services that are a script of `/etc/init.d` and nothing else: systemd makes units of
//! those scripts and starts the linked ones. It orders them by their headers, so that the number
//! in a link's name means nothing.

use super::error::ConfigureError;
use super::image::{Access, Image};
use super::units::Units;

/// For error messages.
const EFFECT: &str = "run-levels";

/// Links a script as its header asks, unless a unit stands for it.
pub(super) fn link(image: &mut Image<'_>, name: &str) -> Result<(), ConfigureError> {
    let Some(text) = image.read_text(&format!("/etc/init.d/{name}"))? else {
        return Ok(());
    };
    if Units::known(image, &format!("{name}.service"))? {
        return Ok(());
    }
    for (key, letter) in [("Default-Start", 'S'), ("Default-Stop", 'K')] {
        for level in levels(&text, key) {
            let folder = format!("/etc/rc{level}.d");
            image.ensure_directory(&folder, Access::root(0o755), EFFECT)?;
            let link = format!("{folder}/{letter}01{name}");
            image.symlink(&link, &format!("../init.d/{name}"), EFFECT)?;
        }
    }
    Ok(())
}

/// The levels that the header of a script names (LSB Core, "Comment Conventions for Init Scripts").
fn levels<'a>(script: &'a str, key: &str) -> Vec<&'a str> {
    let header = script
        .lines()
        .skip_while(|line| line.trim_end() != "### BEGIN INIT INFO")
        .take_while(|line| line.trim_end() != "### END INIT INFO");
    let mut values = header.filter_map(|line| {
        let (name, value) = line.strip_prefix('#')?.split_once(':')?;
        (name.trim() == key).then_some(value)
    });
    let levels = values.next().unwrap_or_default().split_ascii_whitespace();
    levels
        .filter(|level| matches!(level.as_bytes(), [b'0'..=b'6' | b'S']))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    #[test]
    fn only_what_has_no_unit_is_linked() {
        let script = "#!/bin/sh\n# Default-Start: 1\n### BEGIN INIT INFO\n# Provides: old\n\
            # Default-Start:     2 3\n# Default-Stop: 0 x ../../etc\n### END INIT INFO\n";
        let files = [
            ("/etc/init.d/old", script),
            ("/etc/init.d/new", script),
            ("/usr/lib/systemd/system/new.service", "[Service]\n"),
        ];
        let spool = testing::spool();
        let mut image = testing::image(&spool, &files);
        for name in ["old", "new", "nowhere"] {
            link(&mut image, name).unwrap();
        }
        let expected = [
            ("0", vec!["K01old"]),
            ("1", vec![]),
            ("2", vec!["S01old"]),
            ("3", vec!["S01old"]),
        ];
        for (level, links) in expected {
            assert_eq!(image.names(&format!("/etc/rc{level}.d")).unwrap(), links);
        }
    }
}
