//! Alternatives: one name, several programs, a link that says which (`update-alternatives`).
//!
//! Takes one alternative at a time, as packages install them; keeps the database that
//! `update-alternatives` keeps, and points the links at the choice with the highest priority.
//!
//! ```text
//! /var/lib/dpkg/alternatives/<name>   auto | master link | slaves | choices
//! <link>                              -> /etc/alternatives/<name> -> <path>
//! ```

use serde::Deserialize;

use super::error::ConfigureError;
use super::image::{Access, Image};

const DATABASE: &str = "/var/lib/dpkg/alternatives";
const LINKS: &str = "/etc/alternatives";
const EFFECT: &str = "alternatives";

/// `update-alternatives --install <link> <name> <path> <priority>` with its slaves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alternative {
    link: String,
    name: String,
    path: String,
    priority: i32,
    #[serde(default)]
    slaves: Vec<Slave>,
}

/// `--slave <link> <name> <path>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slave {
    link: String,
    name: String,
    path: String,
}

/// One file of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Group {
    link: String,
    /// Name and link, sorted by name.
    slaves: Vec<(String, String)>,
    choices: Vec<Choice>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Choice {
    path: String,
    priority: i32,
    /// Paths in the order of the group's slaves; empty where this choice has none.
    slaves: Vec<String>,
}

/// Installs one alternative and points the links at the best.
pub(super) fn install(image: &mut Image<'_>, new: &Alternative) -> Result<(), ConfigureError> {
    // A program that the recipe leaves out is no choice.
    if !image.exists(&new.path)? {
        return Ok(());
    }
    let file = format!("{DATABASE}/{}", new.name);
    let mut group = match image.read_text(&file)? {
        Some(text) => Group::parse(&text).ok_or_else(|| ConfigureError::Syntax {
            file: file.clone(),
            line: 1,
            problem: "this is no group of alternatives".to_owned(),
        })?,
        None => Group::default(),
    };
    group.add(new);
    image.rewrite(&file, group.text(), Access::root(0o644), EFFECT)?;
    // The first of equals wins, as for update-alternatives.
    let best = group
        .choices
        .iter()
        .rev()
        .max_by_key(|choice| choice.priority);
    let Some(best) = best else { return Ok(()) };
    point(image, &new.name, &group.link, &best.path)?;
    for ((name, link), path) in group.slaves.iter().zip(&best.slaves) {
        if !path.is_empty() && image.exists(path)? {
            point(image, name, link, path)?;
        } else {
            image.remove(link)?;
            image.remove(&format!("{LINKS}/{name}"))?;
        }
    }
    Ok(())
}

fn point(image: &mut Image<'_>, name: &str, link: &str, path: &str) -> Result<(), ConfigureError> {
    let middle = format!("{LINKS}/{name}");
    image.symlink(&middle, path, EFFECT)?;
    image.symlink(link, &middle, EFFECT)
}

impl Group {
    fn add(&mut self, new: &Alternative) {
        self.link.clone_from(&new.link);
        for slave in &new.slaves {
            match self
                .slaves
                .binary_search_by(|(name, _)| name.as_str().cmp(&slave.name))
            {
                Ok(at) => self.slaves[at].1.clone_from(&slave.link),
                Err(at) => {
                    self.slaves
                        .insert(at, (slave.name.clone(), slave.link.clone()));
                    self.choices
                        .iter_mut()
                        .for_each(|c| c.slaves.insert(at, String::new()));
                }
            }
        }
        let path_of = |name: &String| {
            let slave = new.slaves.iter().find(|slave| slave.name == *name);
            slave.map(|slave| slave.path.clone()).unwrap_or_default()
        };
        let slaves = self.slaves.iter().map(|(name, _)| path_of(name)).collect();
        let choice = Choice {
            path: new.path.clone(),
            priority: new.priority,
            slaves,
        };
        match self
            .choices
            .binary_search_by(|known| known.path.cmp(&choice.path))
        {
            Ok(at) => self.choices[at] = choice,
            Err(at) => self.choices.insert(at, choice),
        }
    }

    /// The format is documented in dpkg's `utils/update-alternatives.c` (`alternative_save`):
    /// lines, an empty line after the slaves and after the choices.
    fn text(&self) -> String {
        let mut lines = vec!["auto".to_owned(), self.link.clone()];
        for (name, link) in &self.slaves {
            lines.extend([name.clone(), link.clone()]);
        }
        lines.push(String::new());
        for choice in &self.choices {
            lines.extend([choice.path.clone(), choice.priority.to_string()]);
            lines.extend(choice.slaves.iter().cloned());
        }
        lines.push(String::new());
        lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::to_owned);
        lines
            .next()
            .filter(|mode| mode == "auto" || mode == "manual")?;
        let mut group = Self {
            link: lines.next()?,
            ..Self::default()
        };
        while let Some(name) = Some(lines.next()?).filter(|name| !name.is_empty()) {
            group.slaves.push((name, lines.next()?));
        }
        while let Some(path) = Some(lines.next()?).filter(|path| !path.is_empty()) {
            let priority = lines.next()?.parse().ok()?;
            let slaves: Option<Vec<String>> = group.slaves.iter().map(|_| lines.next()).collect();
            group.choices.push(Choice {
                path,
                priority,
                slaves: slaves?,
            });
        }
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;
    use baker_model::tree::Kind;

    fn alternative(path: &str, priority: i32, slaves: &[(&str, &str)]) -> Alternative {
        Alternative {
            link: "/usr/bin/awk".to_owned(),
            name: "awk".to_owned(),
            path: path.to_owned(),
            priority,
            slaves: slaves
                .iter()
                .map(|(name, path)| Slave {
                    link: format!("/usr/bin/{name}"),
                    name: (*name).to_owned(),
                    path: (*path).to_owned(),
                })
                .collect(),
        }
    }

    #[test]
    fn the_highest_priority_wins_and_slaves_follow() {
        let spool = testing::spool();
        let files = [("/usr/bin/mawk", "m"), ("/usr/bin/gawk", "g")];
        let mut image = testing::image(&spool, &files);
        let rows = [
            alternative("/usr/bin/mawk", 5, &[("nawk", "/usr/bin/mawk")]),
            alternative(
                "/usr/bin/gawk",
                10,
                &[("gnuawk", "/usr/bin/gawk"), ("nawk", "/gone")],
            ),
            alternative("/usr/bin/original-awk", 99, &[]),
        ];
        for row in rows {
            install(&mut image, &row).unwrap();
        }
        let target = |path: &str| match image.node_itself(path).unwrap().map(|n| n.kind.clone()) {
            Some(Kind::Symlink { target }) => String::from_utf8(target).unwrap(),
            _ => String::new(),
        };
        assert_eq!(target("/etc/alternatives/awk"), "/usr/bin/gawk");
        assert_eq!(target("/usr/bin/awk"), "/etc/alternatives/awk");
        assert_eq!(target("/usr/bin/nawk"), "");
        assert_eq!(target("/usr/bin/gnuawk"), "/etc/alternatives/gnuawk");
        assert_eq!(
            image
                .read_text("/var/lib/dpkg/alternatives/awk")
                .unwrap()
                .unwrap(),
            "auto\n/usr/bin/awk\ngnuawk\n/usr/bin/gnuawk\nnawk\n/usr/bin/nawk\n\n\
             /usr/bin/gawk\n10\n/usr/bin/gawk\n/gone\n/usr/bin/mawk\n5\n\n/usr/bin/mawk\n\n"
        );
    }
}
