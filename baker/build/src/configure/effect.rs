//! The words in which the ledger says what a script does, and the doing of it.

use baker_model::recipe::Mode;
use baker_model::tree::{Kind, LastLink};
use serde::Deserialize;

use super::accounts::{self, Accounts};
use super::alternatives::{self, Alternative};
use super::error::ConfigureError;
use super::image::{Access, Image};
use super::pam;
use super::run_levels;
use super::settings;
use super::tmpfiles;
use super::units::{Missing, Presets, Units};

/// One thing that a script does to the tree.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Effect {
    /// Copies a file with its access, unless something is at `to` already.
    Copy(Copy),
    /// Makes a directory, unless there is one.
    Directory(Owned),
    /// Makes an empty file unless there is one, and sets its access.
    File(Owned),
    /// Sets owner, group and mode of what is there.
    Own(Owned),
    /// Writes a file, unless there is one.
    Write(Text),
    /// Makes a symbolic link, unless there is one or something else; an empty directory gives way.
    Link(Link),
    /// Sets owner, group and mode, and notes them in dpkg's list of overrides.
    StatOverride(Owned),
    /// Enables a unit whatever the presets say, if the image has it.
    Enable(String),
    /// Enables a unit as the presets say, if the image has it.
    Preset(String),
    /// Makes a system group, unless there is one.
    Group(String),
    /// Makes accounts that are not there, in the words of `sysusers.d`.
    Accounts(Vec<String>),
    /// Runs over the named `sysusers.d` files.
    Sysusers(Vec<String>),
    /// Runs over the named `tmpfiles.d` files.
    Tmpfiles(Vec<String>),
    /// Links a script of `/etc/init.d` into the run levels of its header, unless it has a unit.
    RunLevels(String),
    /// Installs an alternative.
    Alternative(Alternative),
    /// Moves passwords to the shadow files.
    ShadowPasswords,
    /// Makes the bundle of the authorities that are trusted.
    CertificateBundle,
    /// Makes the common stacks of PAM from the profiles of the packages.
    PamProfiles,
    /// The cache of the dynamic loader is written, once, after all packages.
    LoaderCache,
}

/// From and to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copy {
    from: String,
    to: String,
    /// Only when this exists.
    when: Option<String>,
}

/// A path and its access.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owned {
    path: String,
    mode: Mode,
    #[serde(default = "root")]
    owner: String,
    #[serde(default = "root")]
    group: String,
    /// Only when this exists.
    when: Option<String>,
}

/// A path and what it holds; root's, and everybody may read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    path: String,
    text: String,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    path: String,
    target: String,
    /// Only when this exists.
    when: Option<String>,
}

fn root() -> String {
    "root".to_owned()
}

impl Effect {
    /// The file that a profile of AppArmor includes for what is local.
    pub(super) fn local_profile(name: &str) -> Self {
        Self::File(Owned {
            path: format!("/etc/apparmor.d/local/{name}"),
            mode: Mode(0o644),
            owner: root(),
            group: root(),
            when: Some(format!("/etc/apparmor.d/{name}")),
        })
    }
}

/// Does one effect.
pub(super) fn apply(image: &mut Image<'_>, effect: &Effect) -> Result<(), ConfigureError> {
    match effect {
        Effect::Copy(copy) => copy_file(image, copy),
        Effect::Directory(owned) => {
            if !holds(image, owned.when.as_deref())? {
                return Ok(());
            }
            let access = access(image, owned)?;
            image.ensure_directory(&owned.path, access, "directory")
        }
        Effect::File(owned) => empty_file(image, owned),
        Effect::Own(owned) => set_access(image, owned),
        Effect::Link(link) => make_link(image, link),
        Effect::StatOverride(owned) => stat_override(image, owned),
        Effect::Enable(unit) => Units::enable(image, unit, Missing::PassOver),
        Effect::Preset(unit) => {
            for unit in Presets::load(image)?.wanted(unit) {
                Units::enable(image, &unit, Missing::PassOver)?;
            }
            Ok(())
        }
        Effect::Group(name) => {
            let mut accounts = Accounts::load(image)?;
            accounts.add_system_group(name)?;
            accounts.save(image)
        }
        Effect::Accounts(lines) => {
            let mut accounts = Accounts::load(image)?;
            accounts::run_lines(image, &mut accounts, lines)?;
            accounts.save(image)
        }
        Effect::Sysusers(names) => {
            let mut accounts = Accounts::load(image)?;
            accounts::run_named(image, &mut accounts, names)?;
            accounts.save(image)
        }
        Effect::Tmpfiles(names) => tmpfiles::run_named(image, names),
        Effect::Write(file) => write_text(image, file),
        Effect::RunLevels(script) => run_levels::link(image, script),
        Effect::Alternative(alternative) => alternatives::install(image, alternative),
        Effect::ShadowPasswords => {
            let mut accounts = Accounts::load(image)?;
            accounts.shadow_all();
            accounts.save(image)?;
            open_to_shadow(image, &accounts)
        }
        Effect::CertificateBundle => settings::certificates::write_bundle(image),
        Effect::PamProfiles => pam::write_stacks(image),
        // Written once, after everything else has settled.
        Effect::LoaderCache => Ok(()),
    }
}

/// The shadow files as `shadowconfig` leaves them: programs that check passwords for others than
/// root have the rights of the group shadow.
fn open_to_shadow(image: &mut Image<'_>, accounts: &Accounts) -> Result<(), ConfigureError> {
    let group = accounts.need_gid("shadow", "/etc/shadow")?;
    for path in ["/etc/shadow", "/etc/gshadow"] {
        if image.exists(path)? {
            image.set_access(path, LastLink::Follow, |data| {
                (data.mode, data.uid, data.gid) = (0o640, 0, group);
            })?;
        }
    }
    Ok(())
}

fn holds(image: &Image<'_>, when: Option<&str>) -> Result<bool, ConfigureError> {
    when.map_or(Ok(true), |path| image.exists(path))
}

fn access(image: &Image<'_>, owned: &Owned) -> Result<Access, ConfigureError> {
    let accounts = Accounts::load(image)?;
    Ok(Access {
        mode: owned.mode.0,
        uid: accounts.need_uid(&owned.owner, &owned.path)?,
        gid: accounts.need_gid(&owned.group, &owned.path)?,
    })
}

fn copy_file(image: &mut Image<'_>, copy: &Copy) -> Result<(), ConfigureError> {
    if image.exists(&copy.to)? || !holds(image, copy.when.as_deref())? {
        return Ok(());
    }
    // A file that the recipe excludes cannot be copied, and is not missed either.
    let Some(node) = image.node(&copy.from)? else {
        return Ok(());
    };
    let Kind::File { content, .. } = &node.kind else {
        return Err(ConfigureError::Unexpected {
            path: copy.from.clone(),
            expected: "file",
        });
    };
    let data = &node.metadata;
    let access = Access {
        mode: data.mode,
        uid: data.uid,
        gid: data.gid,
    };
    let (content, mtime) = (content.clone(), data.mtime);
    image.put_content(&copy.to, content, access, "copy")?;
    image.set_access(&copy.to, LastLink::Follow, |data| data.mtime = mtime)
}

fn empty_file(image: &mut Image<'_>, owned: &Owned) -> Result<(), ConfigureError> {
    if !holds(image, owned.when.as_deref())? {
        return Ok(());
    }
    if image.exists(&owned.path)? {
        return set_access(image, owned);
    }
    let access = access(image, owned)?;
    image.write(&owned.path, "", access, "file")
}

fn write_text(image: &mut Image<'_>, file: &Text) -> Result<(), ConfigureError> {
    if image.exists(&file.path)? {
        return Ok(());
    }
    image.write(&file.path, file.text.as_str(), Access::root(0o644), "write")
}

fn set_access(image: &mut Image<'_>, owned: &Owned) -> Result<(), ConfigureError> {
    if !holds(image, owned.when.as_deref())? {
        return Ok(());
    }
    let Access { mode, uid, gid } = access(image, owned)?;
    image.set_access(&owned.path, LastLink::Follow, |data| {
        (data.mode, data.uid, data.gid) = (mode, uid, gid);
    })
}

fn make_link(image: &mut Image<'_>, link: &Link) -> Result<(), ConfigureError> {
    if !holds(image, link.when.as_deref())? {
        return Ok(());
    }
    match image.node_itself(&link.path)?.map(|node| &node.kind) {
        None => {}
        Some(Kind::Directory) if image.names(&link.path)?.is_empty() => {}
        Some(Kind::Directory) => {
            let expected = "link or empty directory";
            return Err(ConfigureError::Unexpected {
                path: link.path.clone(),
                expected,
            });
        }
        Some(_) => return Ok(()),
    }
    image.symlink(&link.path, &link.target, "link")
}

/// `dpkg-statoverride --update --add`, unless the path has an override already.
fn stat_override(image: &mut Image<'_>, owned: &Owned) -> Result<(), ConfigureError> {
    const LIST: &str = "/var/lib/dpkg/statoverride";
    if !image.exists(&owned.path)? {
        return Ok(());
    }
    let mut list = image.read_text(LIST)?.unwrap_or_default();
    let path = &owned.path;
    if list.lines().any(|line| line.ends_with(&format!(" {path}"))) {
        return Ok(());
    }
    set_access(image, owned)?;
    let Owned {
        owner, group, mode, ..
    } = owned;
    list.push_str(&format!("{owner} {group} {:o} {path}\n", mode.0));
    image.rewrite(LIST, list, Access::root(0o644), "stat-override")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    fn run(image: &mut Image<'_>, text: &str) -> Result<(), ConfigureError> {
        #[derive(Deserialize)]
        struct File {
            effects: Vec<Effect>,
        }
        let file: File = toml::from_str(&format!("effects = [\n{text}\n]\n")).unwrap();
        file.effects
            .iter()
            .try_for_each(|effect| apply(image, effect))
    }

    #[test]
    fn effects_do_what_their_words_say() {
        let files = [
            ("/etc/passwd", "root:x:0:0:::\n"),
            ("/etc/group", "root:x:0:\nadm:x:4:\n"),
            ("/usr/share/a", "A"),
            ("/etc/kept", "kept"),
            ("/usr/bin/setuid", ""),
        ];
        let spool = testing::spool();
        let mut image = testing::image(&spool, &files);
        let effects = r#"
            { copy = { from = "/usr/share/a", to = "/etc/a" } },
            { copy = { from = "/usr/share/a", to = "/etc/kept" } },
            { copy = { from = "/usr/share/a", to = "/etc/b", when = "/nowhere" } },
            { directory = { path = "/var/run", mode = "0755" } },
            { link = { path = "/var/run", target = "/run" } },
            { write = { path = "/etc/written", text = "text" } },
            { write = { path = "/etc/kept", text = "text" } },
            { file = { path = "/var/log/x", mode = "0664", group = "adm" } },
            { stat-override = { path = "/usr/bin/setuid", mode = "4754", group = "adm" } },
            { stat-override = { path = "/usr/bin/setuid", mode = "0755", group = "adm" } },
        "#;
        run(&mut image, effects).unwrap();
        assert_eq!(image.read_text("/etc/a").unwrap().unwrap(), "A");
        assert_eq!(image.read_text("/etc/kept").unwrap().unwrap(), "kept");
        assert_eq!(image.read_text("/etc/written").unwrap().unwrap(), "text");
        assert!(!image.exists("/etc/b").unwrap());
        let run_link = image.node_itself("/var/run").unwrap().unwrap();
        assert_eq!(
            run_link.kind,
            Kind::Symlink {
                target: b"/run".to_vec()
            }
        );
        let log = &image.node("/var/log/x").unwrap().unwrap().metadata;
        assert_eq!((log.mode, log.uid, log.gid), (0o664, 0, 4));
        assert_eq!(
            image
                .node("/usr/bin/setuid")
                .unwrap()
                .unwrap()
                .metadata
                .mode,
            0o4754
        );
        assert_eq!(
            image
                .read_text("/var/lib/dpkg/statoverride")
                .unwrap()
                .unwrap(),
            "root adm 4754 /usr/bin/setuid\n"
        );
    }

    #[test]
    fn an_unknown_group_and_a_full_directory_are_errors() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &[("/full/x", "")]);
        let unknown = r#"{ file = { path = "/x", mode = "0644", group = "nobody-knows" } }"#;
        let error = run(&mut image, unknown).unwrap_err();
        assert!(matches!(error, ConfigureError::NoAccount { .. }), "{error}");
        let full = r#"{ link = { path = "/full", target = "/run" } }"#;
        assert!(matches!(
            run(&mut image, full),
            Err(ConfigureError::Unexpected { .. })
        ));
    }
}
