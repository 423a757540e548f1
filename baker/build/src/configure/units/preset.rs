//! `*.preset` files: which units a distribution wants enabled.

use baker_contract::pattern;

use crate::configure::error::ConfigureError;
use crate::configure::image::Image;
use crate::configure::words;

const FOLDERS: [&str; 3] = [
    "/etc/systemd/system-preset",
    "/usr/local/lib/systemd/system-preset",
    "/usr/lib/systemd/system-preset",
];

/// The rules of a tree; the first that matches decides, and without one a unit is enabled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::configure) struct Presets(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    enable: bool,
    pattern: String,
    instances: Vec<String>,
}

impl Presets {
    /// Reads all preset files of the tree.
    pub(in crate::configure) fn load(image: &Image<'_>) -> Result<Self, ConfigureError> {
        let mut rules = Vec::new();
        for path in words::files_named(image, &FOLDERS, ".preset")?.values() {
            let text = image.read_text(path)?.unwrap_or_default();
            rules.extend(text.lines().filter_map(rule));
        }
        Ok(Self(rules))
    }

    /// The rules of these texts, strongest first.
    pub(in crate::configure) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        Self(texts.flat_map(str::lines).filter_map(rule).collect())
    }

    /// True when there is no rule.
    pub(in crate::configure) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As [`Presets::wanted`], for a unit that a rule names; none for others.
    pub(in crate::configure) fn named(&self, unit: &str) -> Option<Vec<String>> {
        let named = self.0.iter().any(|rule| rule.matches(unit));
        named.then(|| self.wanted(unit))
    }

    /// The names to enable for `unit`: itself, instances that a rule lists, or nothing.
    pub(in crate::configure) fn wanted(&self, unit: &str) -> Vec<String> {
        let matched = self.0.iter().find(|rule| rule.matches(unit));
        match matched {
            Some(rule) if !rule.enable => Vec::new(),
            Some(rule) if !rule.instances.is_empty() && unit.contains("@.") => {
                let instance = |name: &String| unit.replacen("@.", &format!("@{name}."), 1);
                rule.instances.iter().map(instance).collect()
            }
            _ => vec![unit.to_owned()],
        }
    }
}

impl Rule {
    fn matches(&self, unit: &str) -> bool {
        pattern::matches(self.pattern.as_bytes(), unit.as_bytes())
    }
}

/// `enable` or `disable`, a pattern, instances; other lines say nothing (`ignore` is for the
/// first boot of a machine, which an image does not have).
fn rule(line: &str) -> Option<Rule> {
    let mut words = line.split_ascii_whitespace();
    let enable = match words.next()? {
        "enable" => true,
        "disable" => false,
        _ => return None,
    };
    let pattern = words.next()?.to_owned();
    Some(Rule {
        enable,
        pattern,
        instances: words.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    #[test]
    fn the_first_rule_decides_and_etc_comes_first() {
        let files = [
            (
                "/usr/lib/systemd/system-preset/90-a.preset",
                "enable b.service\ndisable c*\n",
            ),
            (
                "/usr/lib/systemd/system-preset/10-a.preset",
                "enable t@.service one two\n",
            ),
            (
                "/etc/systemd/system-preset/90-a.preset",
                "disable b.service\n# x\ndisable c*\n",
            ),
        ];
        let spool = testing::spool();
        let presets = Presets::load(&testing::image(&spool, &files)).unwrap();
        assert!(presets.wanted("b.service").is_empty());
        assert!(presets.wanted("cron.service").is_empty());
        assert_eq!(presets.wanted("d.service"), ["d.service"]);
        assert_eq!(
            presets.wanted("t@.service"),
            ["t@one.service", "t@two.service"]
        );
    }
}
