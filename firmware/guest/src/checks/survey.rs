//! The files of the root: what can be run, and with whose rights.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Answer, Progress};

/// Programs that read commands from people or scripts.
const SHELLS: &[&str] = &[
    // The POSIX shell by its name, and its restricted kind.
    "sh",
    "rsh",
    "sh.shared",
    "sh.distrib",
    // Bourne's descendants.
    "ash",
    "bash",
    "bash-static",
    "dash",
    "hush",
    "lash",
    "posh",
    "rbash",
    "sash",
    "yash",
    // Korn's.
    "ksh",
    "ksh88",
    "ksh93",
    "ksh2020",
    "lksh",
    "loksh",
    "mksh",
    "mksh-static",
    "oksh",
    "pdksh",
    "rksh",
    "rksh93",
    // Z shell.
    "rzsh",
    "zsh",
    "zsh5",
    "zsh-static",
    // C shell.
    "bsd-csh",
    "csh",
    "tcsh",
    // The rest that people install as login shells.
    "elvish",
    "fish",
    "ion",
    "nu",
    "nushell",
    "osh",
    "pwsh",
    "scsh",
    "xonsh",
    "ysh",
    // Programs that are a shell when called as one.
    "busybox",
    "busybox.static",
    "toybox",
];

/// Programs that add packages of a distribution, or change those that are there. Installers of
/// programming languages (pip, npm) belong to the application, and are not in the list.
const PACKAGE_MANAGERS: &[&str] = &[
    // Debian and its relatives; `dpkg-deb` unpacks a package anywhere.
    "apt",
    "apt-get",
    "aptitude",
    "dpkg",
    "dpkg-deb",
    "dselect",
    "synaptic",
    "nala",
    // RPM and what stands on it.
    "dnf",
    "dnf-3",
    "dnf5",
    "microdnf",
    "rpm",
    "rpm2cpio",
    "rpm-ostree",
    "tdnf",
    "up2date",
    "urpmi",
    "yum",
    "zypper",
    "zypp-refresh",
    // Alpine, Arch, Gentoo, Void, Slackware, Solus, Clear Linux, Puppy, Chimera.
    "apk",
    "apk.static",
    "pacman",
    "emerge",
    "xbps-install",
    "installpkg",
    "slackpkg",
    "eopkg",
    "swupd",
    "petget",
    "cports",
    // Small systems.
    "ipkg",
    "opkg",
    "opkg-cl",
    // Those that need no distribution.
    "brew",
    "flatpak",
    "guix",
    "nix",
    "nix-env",
    "nix-store",
    "pkcon",
    "pkgin",
    "pkg_add",
    "snap",
];

/// Login shells by the image's own word.
const LOGIN_SHELLS: &str = "/etc/shells";

/// Stand in `/etc/shells` at times, and refuse every command.
const REFUSING: [&str; 3] = ["nologin", "false", "true"];

/// Entries between two signs of progress.
const TELL_EVERY: usize = 2000;

/// What a walk over the root found.
pub struct Survey {
    shells: BTreeSet<String>,
    package_managers: BTreeSet<String>,
    set_id: BTreeSet<String>,
    /// What could not be looked at.
    unread: BTreeSet<String>,
}

impl Survey {
    /// Walks over the file system of `/`, and no other.
    pub fn of_root(progress: Progress<'_>) -> Self {
        Self::of(Path::new("/"), progress)
    }

    fn of(root: &Path, progress: Progress<'_>) -> Self {
        let mut survey = Self {
            shells: BTreeSet::new(),
            package_managers: BTreeSet::new(),
            set_id: BTreeSet::new(),
            unread: BTreeSet::new(),
        };
        match fs::metadata(root) {
            Ok(found) => survey.walk(root, found.dev(), progress),
            Err(error) => drop(survey.unread.insert(format!("{}: {error}", root.display()))),
        }
        survey.add_login_shells(root);
        survey
    }

    /// No file is a shell.
    pub fn no_shell(&self) -> Answer {
        self.answer(self.shells.iter(), "shell")
    }

    /// No file is a package manager.
    pub fn no_package_manager(&self) -> Answer {
        self.answer(self.package_managers.iter(), "package manager")
    }

    /// No file beyond these runs with the rights of its owner or group.
    pub fn set_id(&self, allowed: &[String]) -> Answer {
        // `/bin/su` is allowed where `/bin` is a link, too.
        let real = |path: &String| Some(fs::canonicalize(path).ok()?.to_str()?.to_owned());
        let allowed: BTreeSet<String> = allowed
            .iter()
            .flat_map(|path| [Some(path.clone()), real(path)])
            .flatten()
            .collect();
        self.answer(
            self.set_id.difference(&allowed),
            "file beyond those allowed",
        )
    }

    /// What was not looked at can be anything.
    fn answer<'a>(&'a self, offenders: impl Iterator<Item = &'a String>, kind: &str) -> Answer {
        let list: Vec<String> = offenders.chain(&self.unread).cloned().collect();
        Answer::none_of(&list, kind)
    }

    fn walk(&mut self, root: &Path, device: u64, progress: Progress<'_>) {
        let mut folders = vec![root.to_owned()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.unread.insert(format!("{}: {error}", folder.display()));
                    continue;
                }
            };
            for entry in entries {
                let path = match entry {
                    Ok(entry) => entry.path(),
                    Err(error) => {
                        self.unread.insert(format!("{}: {error}", folder.display()));
                        continue;
                    }
                };
                seen += 1;
                if seen % TELL_EVERY == 0 {
                    progress(&format!("{seen} files"));
                }
                match fs::symlink_metadata(&path) {
                    Ok(found) if found.dev() != device => {}
                    Ok(found) if found.is_dir() => folders.push(path),
                    Ok(found) => self.look_at(&path, &found),
                    Err(error) => drop(self.unread.insert(format!("{}: {error}", path.display()))),
                }
            }
        }
    }

    fn look_at(&mut self, path: &Path, found: &Metadata) {
        if found.is_file() && found.mode() & 0o6000 != 0 {
            self.set_id.insert(path.display().to_string());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lists = [
            (SHELLS, &mut self.shells),
            (PACKAGE_MANAGERS, &mut self.package_managers),
        ];
        for (names, offenders) in lists {
            if names.contains(&&*name) && runs(path) {
                offenders.insert(path.display().to_string());
            }
        }
    }

    fn add_login_shells(&mut self, root: &Path) {
        let list = root.join(&LOGIN_SHELLS[1..]);
        let text = fs::read_to_string(list).unwrap_or_default();
        for line in text.lines().map(str::trim) {
            let name = line.rsplit('/').next().unwrap_or_default();
            let Some(path) = line.strip_prefix('/').map(|path| root.join(path)) else {
                continue;
            };
            if !REFUSING.contains(&name) && runs(&path) {
                self.shells.insert(path.display().to_string());
            }
        }
    }
}

/// A program, or a link to one.
fn runs(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn put(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn offenders_are_found_by_name_link_and_list() {
        let root = std::env::temp_dir().join(format!("baker-survey-{}", std::process::id()));
        let files = [
            ("usr/bin/bash", 0o755),
            ("usr/share/doc/bash", 0o644),
            ("usr/bin/my-shell", 0o755),
            ("usr/sbin/nologin", 0o755),
            ("usr/bin/dpkg", 0o755),
            ("usr/bin/su", 0o4755),
            ("usr/bin/wall", 0o2755),
            ("usr/bin/cat", 0o755),
        ];
        for (path, mode) in files {
            put(&root, path, mode);
        }
        symlink("bash", root.join("usr/bin/sh")).unwrap();
        symlink("gone", root.join("usr/bin/zsh")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        let list = "# login shells\n/usr/bin/my-shell\n/usr/sbin/nologin\n/usr/bin/none\n";
        fs::write(root.join("etc/shells"), list).unwrap();
        let survey = Survey::of(&root, &|_| {});
        let found = |answer: Answer| answer.found.replace(root.to_str().unwrap(), "");
        let su = root.join("usr/bin/su").to_str().unwrap().to_owned();
        let beyond = found(survey.set_id(&[su]));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            found(survey.no_shell()),
            "/usr/bin/bash /usr/bin/my-shell /usr/bin/sh"
        );
        assert_eq!(found(survey.no_package_manager()), "/usr/bin/dpkg");
        assert_eq!(found(survey.set_id(&[])), "/usr/bin/su /usr/bin/wall");
        assert_eq!(beyond, "/usr/bin/wall");
    }

    #[test]
    fn what_cannot_be_read_counts_as_an_offender() {
        let survey = Survey::of(Path::new("/no/such/root"), &|_| {});
        assert!(!survey.no_shell().holds);
    }

    #[test]
    fn a_name_is_listed_once() {
        for list in [SHELLS, PACKAGE_MANAGERS] {
            let unique: BTreeSet<_> = list.iter().collect();
            assert_eq!(unique.len(), list.len());
        }
    }
}
