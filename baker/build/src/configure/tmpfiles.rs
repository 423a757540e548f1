//! `tmpfiles.d`: the lines that leave something in the tree.
//!
//! Lines about the file systems of a running machine (`/run`, `/dev`, `/proc`, `/sys`, what lies
//! in `/tmp`) and lines that depend on it (credentials, boot ids) stay with the machine, which
//! runs them at every boot. Access control lists and file attributes are also left to it.

use baker_contract::pattern;
use baker_model::tree::{Kind, LastLink, Metadata, TreePath};

use super::accounts::Accounts;
use super::error::ConfigureError;
use super::image::{Access, Image};
use super::words;

/// Folders of `tmpfiles.d`, strongest first.
pub(super) const FOLDERS: [&str; 3] = [
    "/etc/tmpfiles.d",
    "/usr/local/lib/tmpfiles.d",
    "/usr/lib/tmpfiles.d",
];

const EFFECT: &str = "tmpfiles";

/// Where nothing of an image lives.
const OF_MACHINE: [&str; 5] = ["/run/", "/dev/", "/proc/", "/sys/", "/tmp/"];

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The letter.
    pub(super) action: char,
    modifiers: String,
    /// The path, specifiers replaced.
    pub(super) path: String,
    mode: Option<Permissions>,
    user: Option<Owner>,
    group: Option<Owner>,
    argument: String,
}

/// The mode field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Permissions {
    mode: u16,
    only_new: bool,
}

/// An owner field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    name: String,
    only_new: bool,
}

/// Runs over the named files, as `systemd-tmpfiles --create a.conf b.conf` does.
pub(super) fn run_named(image: &mut Image<'_>, names: &[String]) -> Result<(), ConfigureError> {
    for name in names {
        let paths = FOLDERS.map(|folder| format!("{folder}/{name}"));
        for path in paths {
            if let Some(text) = image.read_text(&path)? {
                run(image, &path, &text)?;
                break;
            }
        }
    }
    Ok(())
}

/// Every line of every file of the tree, strongest file of each name.
pub(super) fn all_lines(image: &Image<'_>) -> Result<Vec<Line>, ConfigureError> {
    let mut lines = Vec::new();
    for path in words::configuration_files(image, &FOLDERS)?.values() {
        let text = image.read_text(path)?.unwrap_or_default();
        lines.extend(parse(image, path, &text)?);
    }
    Ok(lines)
}

fn run(image: &mut Image<'_>, file: &str, text: &str) -> Result<(), ConfigureError> {
    let accounts = Accounts::load(image)?;
    for line in parse(image, file, text)? {
        let of_machine = OF_MACHINE
            .iter()
            .any(|prefix| line.path.starts_with(prefix))
            || words::is_of_machine(&line.path)
            || words::is_of_machine(&line.argument)
            || line.modifiers.contains(['!', '^']);
        if !of_machine {
            line.create(image, &accounts, file)?;
        }
    }
    Ok(())
}

fn parse(image: &Image<'_>, file: &str, text: &str) -> Result<Vec<Line>, ConfigureError> {
    let mut lines = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let refuse = |problem: &str| ConfigureError::Syntax {
            file: file.to_owned(),
            line: index + 1,
            problem: problem.to_owned(),
        };
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (fields, argument) = fields(text).map_err(refuse)?;
        let field = |at: usize| fields.get(at).map(String::as_str).filter(|f| *f != "-");
        let mut kind = fields[0].chars();
        let action = kind.next().ok_or_else(|| refuse("the line has no type"))?;
        let path = field(1).filter(|path| path.starts_with('/') || path.starts_with('%'));
        let path = path.ok_or_else(|| refuse("the second word is no absolute path"))?;
        let mode = field(2).map(permissions).transpose().map_err(refuse)?;
        lines.push(Line {
            action,
            modifiers: kind.collect(),
            path: words::expand(path, image)?,
            mode,
            user: field(3).map(owner),
            group: field(4).map(owner),
            argument: words::expand(&argument, image)?,
        });
    }
    Ok(lines)
}

/// The six words and the argument, which is all that is left of the line.
fn fields(text: &str) -> Result<(Vec<String>, String), &'static str> {
    let mut rest = text;
    let mut starts = Vec::new();
    for _ in 0..6 {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let quoted = rest.starts_with(['"', '\'']);
        let end = match quoted {
            true => rest[1..]
                .find(&rest[..1])
                .map(|at| at + 2)
                .ok_or("a quote is not closed")?,
            false => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        starts.extend(words::split(&rest[..end])?);
        rest = &rest[end..];
    }
    let argument = rest.trim();
    Ok((
        starts,
        if argument == "-" {
            String::new()
        } else {
            argument.to_owned()
        },
    ))
}

fn permissions(text: &str) -> Result<Permissions, &'static str> {
    let digits = text.trim_start_matches(['~', ':']);
    let only_new = text[..text.len() - digits.len()].contains(':');
    let mode = u16::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777);
    mode.map(|mode| Permissions { mode, only_new })
        .ok_or("the mode is no octal number")
}

fn owner(text: &str) -> Owner {
    let name = text.trim_start_matches(':');
    Owner {
        name: name.to_owned(),
        only_new: name.len() < text.len(),
    }
}

impl Line {
    /// True when the machine makes this path at boot by itself.
    pub(super) fn makes(&self) -> bool {
        matches!(
            self.action,
            'd' | 'D' | 'v' | 'q' | 'Q' | 'f' | 'F' | 'L' | 'C' | 'p' | 'b' | 'c'
        )
    }

    fn create(
        &self,
        image: &mut Image<'_>,
        accounts: &Accounts,
        file: &str,
    ) -> Result<(), ConfigureError> {
        match self.action {
            'd' | 'D' | 'v' | 'q' | 'Q' => {
                let new = !image.exists(&self.path)?;
                let access = self.access(accounts, file, 0o755)?;
                if new || image.is_directory(&self.path)? {
                    image.ensure_directory(&self.path, access, EFFECT)?;
                    self.adjust(image, accounts, file, new)?;
                }
                Ok(())
            }
            'e' if image.is_directory(&self.path)? => self.adjust(image, accounts, file, false),
            'f' | 'F' => {
                let new = !image.exists(&self.path)?;
                if new || self.action == 'F' || self.modifiers.contains('+') {
                    let access = self.access(accounts, file, 0o644)?;
                    image.write(&self.path, self.argument.clone(), access, EFFECT)
                } else {
                    self.adjust(image, accounts, file, false)
                }
            }
            'L' => self.link(image),
            'C' => self.copy(image),
            'z' | 'Z' => self.adjust_matching(image, accounts, file),
            _ => Ok(()),
        }
    }

    fn access(
        &self,
        accounts: &Accounts,
        file: &str,
        default: u16,
    ) -> Result<Access, ConfigureError> {
        let mode = self.mode.map_or(default, |mode| mode.mode);
        let uid = self
            .user
            .as_ref()
            .map(|user| accounts.need_uid(&user.name, file));
        let gid = self
            .group
            .as_ref()
            .map(|group| accounts.need_gid(&group.name, file));
        Ok(Access {
            mode,
            uid: uid.transpose()?.unwrap_or_default(),
            gid: gid.transpose()?.unwrap_or_default(),
        })
    }

    /// What the line says of the access of something that exists.
    fn change(
        &self,
        accounts: &Accounts,
        file: &str,
        new: bool,
    ) -> Result<impl Fn(&mut Metadata) + use<>, ConfigureError> {
        let access = self.access(accounts, file, 0)?;
        let mode = self
            .mode
            .filter(|mode| new || !mode.only_new)
            .map(|mode| mode.mode);
        let uid = self
            .user
            .as_ref()
            .filter(|user| new || !user.only_new)
            .map(|_| access.uid);
        let gid = self
            .group
            .as_ref()
            .filter(|group| new || !group.only_new)
            .map(|_| access.gid);
        Ok(move |data: &mut Metadata| {
            data.mode = mode.unwrap_or(data.mode);
            data.uid = uid.unwrap_or(data.uid);
            data.gid = gid.unwrap_or(data.gid);
        })
    }

    fn adjust(
        &self,
        image: &mut Image<'_>,
        accounts: &Accounts,
        file: &str,
        new: bool,
    ) -> Result<(), ConfigureError> {
        let change = self.change(accounts, file, new)?;
        image.set_access(&self.path, LastLink::Follow, change)
    }

    /// `z` and `Z`: everything that matches a pattern, `Z` with all below.
    fn adjust_matching(
        &self,
        image: &mut Image<'_>,
        accounts: &Accounts,
        file: &str,
    ) -> Result<(), ConfigureError> {
        let change = self.change(accounts, file, false)?;
        let pattern: Vec<&[u8]> = self
            .path
            .as_bytes()
            .split(|byte| *byte == b'/')
            .filter(|p| !p.is_empty())
            .collect();
        let deep = self.action == 'Z';
        for (path, node) in image.tree.walk_mut() {
            let depth = path.components().count();
            let fits = (depth == pattern.len() || (deep && depth > pattern.len()))
                && path
                    .components()
                    .zip(&pattern)
                    .all(|(name, p)| pattern::matches(p, name));
            if fits && !matches!(node.kind, Kind::Symlink { .. }) {
                change(&mut node.metadata);
            }
        }
        Ok(())
    }

    fn link(&self, image: &mut Image<'_>) -> Result<(), ConfigureError> {
        let target = match self.argument.as_str() {
            "" => format!("../usr/share/factory{}", self.path),
            given => given.to_owned(),
        };
        let there = image.node_itself(&self.path)?.is_some();
        if there && !self.modifiers.contains('+') {
            return Ok(());
        }
        if self.modifiers.contains('?') && !image.exists(&target)? {
            return Ok(());
        }
        if there {
            image.remove(&self.path)?;
        }
        image.symlink(&self.path, &target, EFFECT)
    }

    /// `C`: a copy of a file or folder, when there is none yet.
    fn copy(&self, image: &mut Image<'_>) -> Result<(), ConfigureError> {
        let from = match self.argument.as_str() {
            "" => format!("/usr/share/factory{}", self.path),
            given => given.to_owned(),
        };
        let Some(source) = image.locate(&from, LastLink::Follow)? else {
            return Ok(());
        };
        let empty = image.names(&self.path)?.is_empty();
        if image.tree.get(&source).is_none() || (image.exists(&self.path)? && !empty) {
            return Ok(());
        }
        let Some(target) = image.locate(&self.path, LastLink::Keep)? else {
            return Ok(());
        };
        let refuse = |source| ConfigureError::Put {
            path: self.path.clone(),
            source,
        };
        let copies: Vec<(TreePath, baker_model::tree::Node)> = image
            .tree
            .walk_below(&source)
            .filter_map(|(path, node)| {
                let below = path.as_bytes().get(source.as_bytes().len()..)?;
                let mut node = node.clone();
                if let Kind::File { link, .. } = &mut node.kind {
                    *link = None;
                }
                Some((target.join(below).ok()?, node))
            })
            .collect();
        image
            .tree
            .ensure_parents(&target, image.epoch())
            .map_err(refuse)?;
        for (path, node) in copies {
            image.tree.insert(path, node).map_err(refuse)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    const LINES: &str = "# comment\nd /var/lib/a 0750 adm adm 10d\nL /etc/mtab - - - - /old\n\
        L+ /etc/mtab - - - - ../proc/self/mounts\nf /etc/x 0640 root adm - hello world\n\
        d /run/no 0755\nd- /root :0700 root :root -\nd! /boot-only 0755\nL? /etc/n - - - - /gone\n\
        C /etc/skel - - - -\nz /var/lib/* - - root -\nf^ /etc/cred - - - - name\nd /m/%m 0755\n";

    #[test]
    fn lines_leave_what_systemd_tmpfiles_leaves() {
        let files = [
            ("/etc/passwd", "root:x:0:0:::\nadm:x:4:4:::\n"),
            ("/etc/group", "root:x:0:\nadm:x:4:\n"),
            ("/root/x", ""),
            ("/usr/share/factory/etc/skel/a/b", "c"),
            ("/usr/lib/tmpfiles.d/t.conf", LINES),
        ];
        let spool = testing::spool();
        let mut image = testing::image(&spool, &files);
        run_named(&mut image, &["t.conf".to_owned()]).unwrap();
        let access = |path: &str| {
            let data = &image.node(path).unwrap().unwrap().metadata;
            (data.mode, data.uid, data.gid)
        };
        assert_eq!(access("/var/lib/a"), (0o750, 4, 0));
        assert_eq!(access("/root"), (0o755, 0, 0));
        assert_eq!(access("/etc/x"), (0o640, 0, 4));
        assert_eq!(image.read_text("/etc/x").unwrap().unwrap(), "hello world");
        assert_eq!(image.read_text("/etc/skel/a/b").unwrap().unwrap(), "c");
        let link = image.node_itself("/etc/mtab").unwrap().unwrap();
        assert_eq!(
            link.kind,
            Kind::Symlink {
                target: b"../proc/self/mounts".to_vec()
            }
        );
        for path in ["/run/no", "/boot-only", "/etc/n", "/etc/cred", "/m"] {
            assert!(image.node_itself(path).unwrap().is_none(), "{path}");
        }
        assert_eq!(all_lines(&image).unwrap().len(), 12);
    }

    #[test]
    fn broken_lines_are_named() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &[("/etc/tmpfiles.d/t.conf", "\nd /x 99\n")]);
        let error = run_named(&mut image, &["t.conf".to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/etc/tmpfiles.d/t.conf, line 2: the mode is no octal number"
        );
    }
}
