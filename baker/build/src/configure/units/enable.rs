//! Enabling, disabling and masking, link for link as `systemctl` does it.

use std::collections::BTreeSet;

use baker_model::tree::Kind;

use super::file::{self, Found, UnitFile, UnitName};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;

/// Where enablement links go.
const ETC: &str = "/etc/systemd/system";

/// Name of the effect.
const EFFECT: &str = "units";

/// What becomes of a unit that cannot be enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::configure) enum Missing {
    /// It is passed over, as maintainer scripts do (`|| true`).
    PassOver,
    /// It is an error: the recipe names it.
    Refuse,
}

/// The units of a tree.
pub(in crate::configure) struct Units;

impl Units {
    /// Makes the links that the unit's `[Install]` section asks for, and those of `Also=`.
    pub(in crate::configure) fn enable(
        image: &mut Image<'_>,
        unit: &str,
        missing: Missing,
    ) -> Result<(), ConfigureError> {
        let mut todo = vec![unit.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(name) = todo.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let strict = missing == Missing::Refuse && name == unit;
            let file = match file::find(image, &name)? {
                Found::File(file) => file,
                Found::Masked(path) if strict => {
                    return Err(refuse(unit, format!("it is masked by {path}")));
                }
                Found::Nothing if strict => {
                    let mend =
                        "no package of the image has it; is its package in [debian] packages?";
                    return Err(refuse(unit, mend.to_owned()));
                }
                Found::Masked(_) | Found::Nothing => continue,
            };
            if strict && file.install.is_empty() {
                let problem = "it has no [Install] section: something else starts it";
                return Err(refuse(unit, problem.to_owned()));
            }
            todo.extend(file.install.also.iter().cloned());
            link(image, &name, &file)?;
        }
        Ok(())
    }

    /// Removes every link of enablement that leads to the unit; gives how many there were.
    pub(in crate::configure) fn disable(
        image: &mut Image<'_>,
        unit: &str,
    ) -> Result<usize, ConfigureError> {
        let Some(etc) = image.locate(ETC, baker_model::tree::LastLink::Follow)? else {
            return Ok(0);
        };
        let leads_there = |path: &[u8], target: &[u8]| {
            let last = |bytes: &[u8]| bytes.rsplit(|b| *b == b'/').next() == Some(unit.as_bytes());
            target != b"/dev/null" && (last(path) || last(target))
        };
        let links: Vec<_> = image
            .tree
            .walk_below(&etc)
            .filter_map(|(path, node)| match &node.kind {
                Kind::Symlink { target } => Some((path, target)),
                _ => None,
            })
            .filter(|(path, target)| leads_there(path.as_bytes(), target))
            .map(|(path, _)| path.clone())
            .collect();
        Ok(links.iter().map(|path| image.tree.remove(path)).sum())
    }

    /// Links the unit to `/dev/null`, so that nothing starts it.
    pub(in crate::configure) fn mask(
        image: &mut Image<'_>,
        unit: &str,
        effect: &'static str,
    ) -> Result<(), ConfigureError> {
        let parts = UnitName::parse(unit);
        parts.ok_or_else(|| refuse(unit, "this is no unit name".to_owned()))?;
        let path = format!("{ETC}/{unit}");
        let kind = image.node_itself(&path)?.map(|node| &node.kind);
        if matches!(kind, Some(Kind::File { .. } | Kind::Directory)) {
            let problem = format!("{path} is a file of its own; do without that file instead");
            return Err(refuse(unit, problem));
        }
        image.symlink(&path, "/dev/null", effect)
    }

    /// The target that the system boots to.
    pub(in crate::configure) fn set_default(
        image: &mut Image<'_>,
        target: &str,
    ) -> Result<(), ConfigureError> {
        if !target.ends_with(".target") {
            return Err(refuse(
                target,
                "default-target wants a unit `*.target`".to_owned(),
            ));
        }
        match file::find(image, target)? {
            Found::File(file) => {
                image.symlink(&format!("{ETC}/default.target"), &file.path, EFFECT)
            }
            Found::Masked(path) => Err(refuse(target, format!("it is masked by {path}"))),
            Found::Nothing => Err(refuse(target, "no package of the image has it".to_owned())),
        }
    }

    /// True when the tree has the unit, masked or not.
    pub(in crate::configure) fn known(
        image: &Image<'_>,
        unit: &str,
    ) -> Result<bool, ConfigureError> {
        Ok(!matches!(file::find(image, unit)?, Found::Nothing))
    }

    /// True when the tree has the unit and it is not masked.
    pub(in crate::configure) fn has(image: &Image<'_>, unit: &str) -> Result<bool, ConfigureError> {
        Ok(matches!(file::find(image, unit)?, Found::File(_)))
    }
}

fn refuse(unit: &str, problem: String) -> ConfigureError {
    ConfigureError::Unit {
        unit: unit.to_owned(),
        problem,
    }
}

/// Makes the links of one unit.
fn link(image: &mut Image<'_>, asked: &str, unit: &UnitFile) -> Result<(), ConfigureError> {
    // The name to link: as asked for, unless an alias was; a template takes its default instance.
    let own = match UnitName::parse(asked).and_then(|parts| parts.template()) {
        Some(template) if template == unit.name => asked,
        _ => unit.name.as_str(),
    };
    let Some(parts) = UnitName::parse(own) else {
        return Ok(());
    };
    let instance = match (parts.is_template(), &unit.install.default_instance) {
        (true, Some(instance)) => parts.with_instance(instance),
        _ => own.to_owned(),
    };
    for alias in &unit.install.alias {
        let alias = expand(alias, &instance);
        // An alias of the unit's own name, or one that is a vendor's link already, is no news.
        if alias != unit.name {
            image.symlink(&format!("{ETC}/{alias}"), &unit.path, EFFECT)?;
        }
    }
    // A template without an instance can only be linked into other templates.
    let linkable = |by: &str| {
        UnitName::parse(&instance).is_some_and(|parts| !parts.is_template())
            || UnitName::parse(by).is_some_and(|by| by.is_template())
    };
    let sorts = [
        (&unit.install.wanted_by, "wants"),
        (&unit.install.required_by, "requires"),
        (&unit.install.upheld_by, "upholds"),
    ];
    for (list, folder) in sorts {
        for by in list {
            let by = expand(by, &instance);
            if linkable(&by) {
                image.symlink(
                    &format!("{ETC}/{by}.{folder}/{instance}"),
                    &unit.path,
                    EFFECT,
                )?;
            }
        }
    }
    Ok(())
}

/// The specifiers that an `[Install]` section may use.
fn expand(text: &str, unit: &str) -> String {
    let Some(parts) = UnitName::parse(unit).filter(|_| text.contains('%')) else {
        return text.to_owned();
    };
    let instance = parts.instance.unwrap_or_default();
    let stem = unit.strip_suffix(parts.suffix).unwrap_or(unit);
    let last = parts.prefix.rsplit('-').next().unwrap_or_default();
    let rows = [
        ("%i", instance),
        ("%p", parts.prefix),
        ("%n", unit),
        ("%N", stem),
        ("%j", last),
    ];
    rows.iter().fold(text.to_owned(), |text, (key, value)| {
        text.replace(key, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    fn links(image: &Image<'_>) -> Vec<String> {
        let link = |(path, node): (&baker_model::tree::TreePath, &baker_model::tree::Node)| {
            let Kind::Symlink { target } = &node.kind else {
                return None;
            };
            let path = path.to_string();
            let path = path.strip_prefix("/etc/systemd/system/")?.to_owned();
            Some(format!("{path} {}", String::from_utf8_lossy(target)))
        };
        image.tree.walk().filter_map(link).collect()
    }

    const FILES: [(&str, &str); 5] = [
        (
            "/usr/lib/systemd/system/net.service",
            "[Install]\nWantedBy=multi-user.target\nAlias=dbus-net.service\nAlso=net.socket gone.path\n",
        ),
        (
            "/usr/lib/systemd/system/net.socket",
            "[Install]\nWantedBy=sockets.target\n",
        ),
        (
            "/usr/lib/systemd/system/getty@.service",
            "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
        ),
        (
            "/usr/lib/systemd/system/static.service",
            "[Service]\nExecStart=/bin/true\n",
        ),
        ("/usr/lib/systemd/system/network.service", "-> net.service"),
    ];

    #[test]
    fn enabling_makes_the_links_that_systemctl_makes() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &FILES);
        for unit in ["network.service", "getty@tty5.service", "getty@.service"] {
            Units::enable(&mut image, unit, Missing::Refuse).unwrap();
        }
        assert_eq!(
            links(&image),
            [
                "dbus-net.service /usr/lib/systemd/system/net.service",
                "getty.target.wants/getty@tty1.service /usr/lib/systemd/system/getty@.service",
                "getty.target.wants/getty@tty5.service /usr/lib/systemd/system/getty@.service",
                "multi-user.target.wants/net.service /usr/lib/systemd/system/net.service",
                "sockets.target.wants/net.socket /usr/lib/systemd/system/net.socket",
            ]
        );
        assert_eq!(Units::disable(&mut image, "net.service").unwrap(), 2);
        assert_eq!(links(&image).len(), 3);
    }

    #[test]
    fn what_cannot_be_enabled_says_why() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &FILES);
        Units::mask(&mut image, "net.socket", "test").unwrap();
        let rows = [
            ("nginx.service", "no package of the image has it"),
            ("static.service", "no [Install] section"),
            ("net.socket", "masked by /etc/systemd/system/net.socket"),
        ];
        for (unit, words) in rows {
            let error = Units::enable(&mut image, unit, Missing::Refuse).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            Units::enable(&mut image, unit, Missing::PassOver).unwrap();
        }
        assert_eq!(links(&image).len(), 1);
        assert!(Units::mask(&mut image, "no-suffix", "test").is_err());
    }
}
