//! What a command changed in the tree, held against what it may change.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use baker_formats::tar::{Header, Kind, Limits, Reader};
use baker_model::tree::TreePath;
use baker_model::{Digest, Digester, Interrupt};

use super::ScriptsError;
use super::leftovers::Leftovers;
use crate::overlay::Pattern;

/// What an archive says of everything in it, without the contents.
#[derive(Debug, Default)]
pub struct Survey(BTreeMap<TreePath, Entry>);

/// One thing; its time does not matter.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    mode: u16,
    owner: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    content: Option<Digest>,
}

impl Survey {
    /// Reads an archive to its end.
    ///
    /// # Errors
    /// The archive is damaged.
    pub fn read(archive: impl BufRead, interrupt: &Interrupt) -> Result<Self, ScriptsError> {
        let limits = Limits {
            bytes: u64::MAX,
            ..Limits::default()
        };
        let mut reader = Reader::new(archive, limits);
        let mut survey = Self::default();
        while let Some(mut entry) = reader.next_entry().map_err(ScriptsError::Archive)? {
            if interrupt.is_raised() {
                return Err(ScriptsError::Interrupted);
            }
            let header = entry.header.clone();
            let path = TreePath::new(&header.path).map_err(|source| ScriptsError::Path {
                path: String::from_utf8_lossy(&header.path).into_owned(),
                source,
            })?;
            let content = match header.kind {
                Kind::File => {
                    let mut digester = Digester::new();
                    io::copy(&mut entry, &mut digester).map_err(|source| ScriptsError::Keep {
                        path: path.clone(),
                        source,
                    })?;
                    Some(digester.finish())
                }
                _ => None,
            };
            survey.0.insert(path, Entry::of(header, content));
        }
        Ok(survey)
    }

    /// What differs in `after`, all of it among `outputs`.
    ///
    /// # Errors
    /// Something else differs, which is no leftover either.
    pub fn declared(
        &self,
        after: &Self,
        outputs: &[String],
    ) -> Result<BTreeSet<TreePath>, ScriptsError> {
        let patterns = outputs.iter().map(|text| {
            Pattern::parse(text).map_err(|source| ScriptsError::Pattern {
                pattern: text.clone(),
                source,
            })
        });
        let patterns: Vec<Pattern> = patterns.collect::<Result<_, _>>()?;
        let leftovers = Leftovers::read()?;
        let is_declared = |path: &TreePath| patterns.iter().any(|pattern| pattern.matches(path));
        let (made, rest): (BTreeSet<_>, BTreeSet<_>) =
            self.differing(after).into_iter().partition(is_declared);
        let is_directory = |path: &TreePath| {
            let entry = after.0.get(path).or_else(|| self.0.get(path));
            entry.is_some_and(|entry| entry.kind == Kind::Directory)
        };
        // Outputs may need directories that were not there.
        let leads = |path: &TreePath| {
            is_directory(path)
                && !self.0.contains_key(path)
                && made.iter().any(|made| made.is_below(path))
        };
        let (above, rest): (BTreeSet<_>, BTreeSet<_>) = rest.into_iter().partition(leads);
        let undeclared: Vec<TreePath> = rest
            .into_iter()
            .filter(|path| !leftovers.has(path, is_directory(path)))
            .collect();
        match undeclared.is_empty() {
            true => Ok(made.into_iter().chain(above).collect()),
            false => Err(ScriptsError::Undeclared { paths: undeclared }),
        }
    }

    fn differing(&self, after: &Self) -> BTreeSet<TreePath> {
        let changed = after.0.iter();
        let changed = changed.filter(|(path, entry)| self.0.get(*path) != Some(*entry));
        let gone = self.0.keys().filter(|path| !after.0.contains_key(*path));
        let changed = changed.map(|(path, _)| path);
        changed.chain(gone).cloned().collect()
    }
}

impl Entry {
    fn of(header: Header, content: Option<Digest>) -> Self {
        let mut xattrs: Vec<_> = header.xattrs.into_iter().collect();
        xattrs.sort();
        Self {
            kind: header.kind,
            mode: header.mode,
            owner: (header.uid, header.gid),
            xattrs,
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use baker_formats::tar;

    use super::*;

    fn survey(files: &[(&str, &str)]) -> Survey {
        let mut archive = Vec::new();
        for (path, content) in files {
            let name = format!("./{path}");
            let header = match path.ends_with('/') {
                true => Header {
                    kind: Kind::Directory,
                    ..Header::of_file(&name, 0, 7)
                },
                false => Header::of_file(&name, content.len() as u64, 7),
            };
            archive.extend(tar::encode(&header));
            archive.write_all(content.as_bytes()).unwrap();
            archive.resize(archive.len().next_multiple_of(tar::BLOCK), 0);
        }
        archive.extend([0; 2 * tar::BLOCK]);
        Survey::read(&archive[..], &Interrupt::new()).unwrap()
    }

    fn outputs(
        before: &Survey,
        after: &[(&str, &str)],
        outputs: &[&str],
    ) -> Result<String, String> {
        let outputs: Vec<String> = outputs.iter().map(|text| (*text).to_owned()).collect();
        match before.declared(&survey(after), &outputs) {
            Ok(made) => {
                let made: Vec<String> = made.iter().map(TreePath::to_string).collect();
                Ok(made.join(" "))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn only_outputs_may_change() {
        let before = survey(&[("etc/", ""), ("etc/a", "1"), ("etc/b", "1")]);
        let same = [("etc/", ""), ("etc/a", "1"), ("etc/b", "1")];
        assert_eq!(outputs(&before, &same, &["/x"]), Ok(String::new()));
        let more = [
            ("etc/", ""),
            ("etc/a", "2"),
            ("etc/b", "1"),
            ("srv/", ""),
            ("srv/x/", ""),
            ("srv/x/y", "1"),
        ];
        let both = ["/etc/a", "/srv/x/**"];
        let made = "/etc/a /srv /srv/x /srv/x/y".to_owned();
        assert_eq!(outputs(&before, &more, &both), Ok(made));
        let error = outputs(&before, &more, &["/srv/x/**"]).unwrap_err();
        assert!(error.ends_with("outputs: /etc/a"), "{error}");
        // A directory that nobody asked for is no output's way.
        let error = outputs(&before, &[&same[..], &[("opt/", "")]].concat(), &both).unwrap_err();
        assert!(error.ends_with("outputs: /opt"), "{error}");
        let error = outputs(&before, &same[..2], &both).unwrap_err();
        assert!(error.ends_with("outputs: /etc/b"), "{error}");
        // What goes anyway is nobody's output.
        let logs = [("var/", ""), ("var/log/", "")];
        let logged = [&logs[..], &[("var/log/x", "1")]].concat();
        assert_eq!(outputs(&survey(&logs), &logged, &both), Ok(String::new()));
    }
}
