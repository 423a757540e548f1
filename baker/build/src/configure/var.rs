//! `/var` at run time: what mounts it, and what brings its content back at every boot.
//!
//! The root is read-only, so `/var` is a file system of its own, empty when the machine starts (a
//! tmpfs) or when it is new (the data partition). systemd-tmpfiles fills it at boot from
//! `/usr/share/factory/var`, where every file of the image's `/var` has a second, hard-linked name.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use baker_model::Recipe;
use baker_model::tree::{Kind, Node, TreePath};

use super::error::ConfigureError;
use super::image::{Access, Image, parse};
use super::sealed::Var;
use super::{settings, tmpfiles};
use crate::links;

const EFFECT: &str = "var";
const FACTORY: &str = "/usr/share/factory";
const RULES: &str = "/usr/lib/tmpfiles.d/baker-var.conf";
const UNITS: &str = "/usr/lib/systemd/system";

/// The partition label that the disk stage gives the data partition.
pub const DATA_LABEL: &str = "data";

/// What `/var` is in images of this recipe.
pub(super) fn kind(recipe: &Recipe) -> Var {
    let made = recipe.disk.data.as_ref();
    if recipe.disk.data_mib.is_some() || made.is_some_and(|data| data.mount() == "/var") {
        Var::Kept
    } else {
        Var::Volatile
    }
}

/// Writes the mount unit of `/var` and the rules that fill it.
pub(super) fn make_var(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    let var = kind(recipe);
    if var == Var::Volatile {
        // Its existence tells journald to keep the journal there: twice in memory.
        image.remove("/var/log/journal")?;
    }
    if image.is_directory(UNITS)? {
        for mount in mounts(recipe, var) {
            mount_unit(image, &mount)?;
        }
    }
    let rules = fill(image)?;
    image.write(RULES, rules, Access::root(0o644), EFFECT)
}

/// A file system that is mounted at boot.
struct Mount {
    what: String,
    place: String,
    kind: &'static str,
    options: &'static str,
    /// Further lines of the unit.
    unit: String,
}

/// `/var`, and the data partition when that is somewhere else.
fn mounts(recipe: &Recipe, var: Var) -> Vec<Mount> {
    let mut mounts = Vec::new();
    if var == Var::Volatile {
        mounts.push(Mount {
            what: "tmpfs".to_owned(),
            place: "/var".to_owned(),
            kind: "tmpfs",
            options: "mode=0755,nosuid,nodev",
            unit: "After=swap.target\n".to_owned(),
        });
    }
    if recipe.disk.data_mib.is_some() {
        mounts.push(Mount {
            what: format!("/dev/disk/by-partlabel/{DATA_LABEL}"),
            place: "/var".to_owned(),
            kind: "auto",
            options: "nosuid,nodev",
            unit: String::new(),
        });
    }
    if let Some(data) = &recipe.disk.data {
        let (what, kind) = settings::data_partition(data);
        let grow = unit_name(data.mount());
        mounts.push(Mount {
            what,
            place: data.mount().to_owned(),
            kind,
            options: "nosuid,nodev",
            unit: format!(
                "Wants=systemd-repart.service systemd-growfs@{grow}.service\n\
                 After=systemd-repart.service\n"
            ),
        });
    }
    mounts
}

fn mount_unit(image: &mut Image<'_>, mount: &Mount) -> Result<(), ConfigureError> {
    let Mount {
        what,
        place,
        kind,
        options,
        unit,
    } = mount;
    let name = format!("{}.mount", unit_name(place));
    let path = format!("{UNITS}/{name}");
    if image.exists(&format!("/etc/systemd/system/{name}"))? || image.exists(&path)? {
        return Ok(());
    }
    let text = format!(
        "[Unit]\nDescription=Variable Data ({place})\nDefaultDependencies=no\n\
         Conflicts=umount.target\nBefore=local-fs.target umount.target\n{unit}\n\
         [Mount]\nWhat={what}\nWhere={place}\nType={kind}\nOptions={options}\n"
    );
    image.write(&path, text, Access::root(0o644), EFFECT)?;
    image.symlink(
        &format!("{UNITS}/local-fs.target.wants/{name}"),
        &format!("../{name}"),
        EFFECT,
    )
}

/// The name of the unit of a place, as `systemd-escape --path` has it.
fn unit_name(place: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    place
        .trim_matches('/')
        .chars()
        .fold(String::new(), |mut name, letter| {
            match letter {
                '/' => name.push('-'),
                letter if plain(letter) => name.push(letter),
                letter => write!(name, "\\x{:02x}", u32::from(letter)).unwrap_or_default(),
            }
            name
        })
}

/// The rules for all of `/var`; files get their second names here.
fn fill(image: &mut Image<'_>) -> Result<String, ConfigureError> {
    let var = parse("/var")?;
    // A path that a package's own rules make would only be warned about as given twice.
    let known: BTreeSet<String> = tmpfiles::all_lines(image)?
        .iter()
        .filter(|line| line.makes())
        .map(|l| l.path.clone())
        .collect();
    let database = format!("{FACTORY}/var/lib/dpkg");
    let linked = image
        .is_directory(&database)?
        .then_some(parse("/var/lib/dpkg")?);
    let mut rules = String::from("# What the packages and the recipe have in /var.\n");
    let mut second_names = Vec::new();
    let nodes: Vec<(TreePath, Node)> = image
        .tree
        .walk_below(&var)
        .map(|(path, node)| (path.clone(), node.clone()))
        .collect();
    for (path, node) in nodes.into_iter().filter(|(path, _)| *path != var) {
        let name = path.to_string();
        match &linked {
            Some(top) if path == *top => {
                // Only dpkg and scanners look there: a link spares every machine the copy.
                writeln!(rules, "L {name} - - - - ../..{database}").unwrap_or_default();
                continue;
            }
            Some(top) if path.is_below(top) => {
                second_names.push(path);
                continue;
            }
            _ if known.contains(&name) => continue,
            _ => {}
        }
        if let Some(rule) = rule(&name, &node) {
            rules.push_str(&rule);
            if matches!(node.kind, Kind::File { .. }) {
                second_names.push(path);
            }
        }
    }
    for path in second_names {
        name_twice(image, &path)?;
    }
    Ok(rules)
}

/// One line of `tmpfiles.d` for one node.
fn rule(name: &str, node: &Node) -> Option<String> {
    let data = &node.metadata;
    let access = format!("{:04o} {} {}", data.mode, data.uid, data.gid);
    let name = quote(name);
    Some(match &node.kind {
        Kind::Directory => format!("d {name} {access} -\n"),
        Kind::File { .. } => format!("C {name} {access} - {FACTORY}{name}\n"),
        Kind::Symlink { target } => {
            let target = String::from_utf8(target.clone()).ok()?.replace('%', "%%");
            format!("L {name} - - - - {target}\n")
        }
        Kind::Fifo => format!("p {name} {access} -\n"),
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Socket => return None,
    })
}

/// A path as a word of `tmpfiles.d`.
fn quote(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@:=".contains(c);
    name.chars().fold(String::new(), |mut word, letter| {
        match letter {
            '%' => word.push_str("%%"),
            letter if plain(letter) || !letter.is_ascii() => word.push(letter),
            letter => {
                let code = u32::from(letter);
                write!(word, "\\x{code:02x}").unwrap_or_default();
            }
        }
        word
    })
}

/// Gives a file of `/var` its second name below the factory folder.
fn name_twice(image: &mut Image<'_>, path: &TreePath) -> Result<(), ConfigureError> {
    let twin = format!("{FACTORY}{path}");
    if image.node_itself(&twin)?.is_some() {
        return Ok(());
    }
    let free = links::free_group(&image.tree);
    let Some(node) = image.tree.get_mut(path) else {
        return Ok(());
    };
    if let Kind::File { link, .. } = &mut node.kind {
        link.get_or_insert(free);
    }
    let node = node.clone();
    let twin = parse(&twin)?;
    let refuse = |source| ConfigureError::Put {
        path: path.to_string(),
        source,
    };
    image
        .tree
        .ensure_parents(&twin, image.epoch())
        .map_err(refuse)?;
    image.tree.insert(twin, node).map(|_| ()).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    fn recipe(tables: &str) -> Recipe {
        let text = format!(
            "name = \"x\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\npackages = []\n\
             [kernel]\npackage = \"k\"\n{tables}\n"
        );
        Recipe::parse(&text).unwrap()
    }

    #[test]
    fn the_data_partition_is_mounted_where_it_is_wanted() {
        let spool = testing::spool();
        let unit = |tables: &str, name: &str| {
            let files = [("/usr/lib/systemd/system/x.service", "")];
            let mut image = testing::image(&spool, &files);
            make_var(&mut image, &recipe(tables)).unwrap();
            image.read_text(&format!("{UNITS}/{name}")).unwrap()
        };
        let var = unit("[disk.data]\n", "var.mount").unwrap();
        for line in [
            "What=/dev/disk/by-partlabel/data\n",
            "Type=ext4\n",
            "After=systemd-repart.service\n",
            "systemd-growfs@var.service\n",
        ] {
            assert!(var.contains(line), "{var}");
        }
        let tables = "[disk.data]\nmount = \"/srv/my-rows\"\nencrypt = \"tpm2\"\n";
        let srv = unit(tables, "srv-my\\x2drows.mount").unwrap();
        assert!(srv.contains("What=/dev/mapper/data\n"), "{srv}");
        assert!(unit(tables, "var.mount").unwrap().contains("Type=tmpfs\n"));
        assert_eq!(unit("", "srv-my\\x2drows.mount"), None);
    }

    #[test]
    fn everything_in_var_comes_back_at_boot() {
        let files = [
            ("/var/log/nginx/access.log", "x"),
            ("/var/run", "-> /run"),
            ("/var/lib/dpkg/status", "S"),
            ("/var/lib/dpkg/info/a.list", "a"),
            ("/usr/share/factory/var/lib/dpkg/status", "S"),
            ("/var/www/a b", ""),
            ("/usr/lib/tmpfiles.d/var.conf", "d /var/log 0755 - - -\n"),
            ("/usr/lib/systemd/system/x.target", ""),
        ];
        let spool = testing::spool();
        let mut image = testing::image(&spool, &files);
        make_var(&mut image, &recipe("")).unwrap();
        assert_eq!(
            image.read_text(RULES).unwrap().unwrap(),
            "# What the packages and the recipe have in /var.\n\
             d /var/lib 0755 0 0 -\n\
             L /var/lib/dpkg - - - - ../../usr/share/factory/var/lib/dpkg\n\
             d /var/log/nginx 0755 0 0 -\n\
             C /var/log/nginx/access.log 0644 0 0 - /usr/share/factory/var/log/nginx/access.log\n\
             L /var/run - - - - /run\n\
             d /var/www 0755 0 0 -\n\
             C /var/www/a\\x20b 0644 0 0 - /usr/share/factory/var/www/a\\x20b\n"
        );
        let link = |path: &str| match &image.node(path).unwrap().unwrap().kind {
            Kind::File { link, .. } => *link,
            _ => None,
        };
        let twin = link("/usr/share/factory/var/log/nginx/access.log");
        assert!(twin.is_some());
        assert_eq!(link("/var/log/nginx/access.log"), twin);
        assert!(
            image
                .exists("/usr/share/factory/var/lib/dpkg/info/a.list")
                .unwrap()
        );
        assert!(
            image
                .read_text("/usr/lib/systemd/system/var.mount")
                .unwrap()
                .is_some()
        );
    }
}
