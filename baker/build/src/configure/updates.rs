//! What a root needs so that systemd-sysupdate updates its machine: `[update]`.
//!
//! A version is three things, brought in this order by three definitions: the hash tree and the
//! root image into the slot that does not run, and at last the UKI, which makes them bootable. A
//! machine that loses power before the last has changed nothing that it boots.
//!
//! | file | what it does |
//! |---|---|
//! | `/usr/lib/sysupdate.d/10-verity.transfer` | hash tree into the free slot |
//! | `/usr/lib/sysupdate.d/20-root.transfer` | root image into the free slot |
//! | `/usr/lib/sysupdate.d/30-uki.transfer` | UKI onto the ESP, with its tries |
//! | `systemd-sysupdate.service.d` | mounts the ESP first |
//!
//! Names are those of the folder that publishing makes. A recipe can replace each file (one that
//! is there already is kept). When to update is the recipe's choice: it enables
//! `systemd-sysupdate.timer`, or starts the service by a unit of its own.

use baker_model::Recipe;
use baker_model::recipe::Update;

use super::error::ConfigureError;
use super::image::{Access, Image};
use super::slots;

const EFFECT: &str = "updates";

/// Programs that an update takes, with their packages.
const PROGRAMS: [(&str, &str); 2] = [
    ("/usr/lib/systemd/systemd-sysupdate", "systemd-container"),
    ("/usr/lib/systemd/systemd-pull", "systemd-container"),
];

/// What checks signatures for systemd-pull, and its package.
const OPENPGP: (&str, &str) = ("/usr/bin/gpg", "gpg");

/// The effect, for a recipe with `[update]`; gives what a person should know.
pub(super) fn define(
    image: &mut Image<'_>,
    recipe: &Recipe,
) -> Result<Option<String>, ConfigureError> {
    let Some(update) = &recipe.update else {
        return Ok(None);
    };
    let openpgp = update.verify.then_some(OPENPGP);
    for (path, package) in PROGRAMS.into_iter().chain(openpgp) {
        if !image.exists(path)? {
            return Err(ConfigureError::Updating { path, package });
        }
    }
    for (path, text) in files(recipe, update) {
        if !image.exists(path)? {
            image.write(path, text, Access::root(0o644), EFFECT)?;
        }
    }
    Ok((!update.verify).then(|| {
        format!(
            "[update] verify = false: machines take whatever {} offers; only Secure Boot would \
             stop it",
            update.url
        )
    }))
}

fn files(recipe: &Recipe, update: &Update) -> [(&'static str, String); 4] {
    let (name, tries) = (&recipe.name, recipe.disk.tries());
    let source = |pattern: &str| {
        format!(
            "[Transfer]\nProtectVersion=%A\n{}\n[Source]\nType=url-file\nPath={}\n\
             MatchPattern={pattern}\n\n[Target]\n",
            if update.verify { "" } else { "Verify=no\n" },
            update.folder(name),
        )
    };
    let partition = |file: &str, label: String, kind: &str| {
        format!(
            "{}Type=partition\nPath=auto\nMatchPattern={label}\nMatchPartitionType={kind}\n\
             ReadOnly=1\n",
            source(&format!("{name}_@v_@u.{file}.raw"))
        )
    };
    // The loader appends its counter to the name and takes it away again.
    let uki = format!(
        "{}Type=regular-file\nPath=/EFI/Linux\nPathRelativeTo=esp\nMatchPattern={name}_@v+@l-@d.efi \
         {name}_@v+@l.efi {name}_@v.efi\nMode=0444\nTriesLeft={tries}\nTriesDone=0\n\
         InstancesMax=2\n",
        source(&format!("{name}_@v.efi"))
    );
    [
        (
            "/usr/lib/sysupdate.d/10-verity.transfer",
            partition("verity", format!("{name}_@v_verity"), "root-verity"),
        ),
        (
            "/usr/lib/sysupdate.d/20-root.transfer",
            partition("root", format!("{name}_@v"), "root"),
        ),
        ("/usr/lib/sysupdate.d/30-uki.transfer", uki),
        (
            "/usr/lib/systemd/system/systemd-sysupdate.service.d/50-baker.conf",
            format!("[Unit]\nRequiresMountsFor={}\n", slots::ESP),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    const FILES: [(&str, &str); 3] = [(PROGRAMS[0].0, ""), (PROGRAMS[1].0, ""), (OPENPGP.0, "")];

    fn recipe(update: &str) -> Recipe {
        let text = format!(
            "name = \"x\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\npackages = []\n\
             [kernel]\npackage = \"k\"\n[disk]\nslots = 2\ntries = 2\n{update}\n"
        );
        Recipe::parse(&text).unwrap()
    }

    const SIGNED: &str = "[update]\nurl = \"https://u.example/r\"\nkeyring = \"k.gpg\"\n";

    #[test]
    fn definitions_come_in_order_and_name_the_published_files() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &FILES);
        assert_eq!(define(&mut image, &recipe(SIGNED)).unwrap(), None);
        let names = image.names("/usr/lib/sysupdate.d").unwrap();
        let all = ["10-verity.transfer", "20-root.transfer", "30-uki.transfer"];
        assert_eq!(names, all);
        let text = |name: &str| {
            let path = format!("/usr/lib/sysupdate.d/{name}");
            image.read_text(&path).unwrap().unwrap()
        };
        for name in all {
            let text = text(name);
            assert!(text.contains("\nProtectVersion=%A\n"), "{text}");
            assert!(
                text.contains("Path=https://u.example/r/sysupdate/x\n"),
                "{text}"
            );
            assert!(!text.contains("Verify="), "{text}");
        }
        assert!(text(all[0]).contains("MatchPattern=x_@v_@u.verity.raw\n"));
        assert!(text(all[1]).contains("MatchPartitionType=root\n"));
        assert!(text(all[2]).contains("TriesLeft=2\nTriesDone=0\n"));
    }

    #[test]
    fn without_verification_machines_are_told_and_so_is_the_person() {
        let spool = testing::spool();
        let own = "/usr/lib/sysupdate.d/20-root.transfer";
        let files = [FILES[0], FILES[1], (own, "own\n")];
        let mut image = testing::image(&spool, &files);
        let open = recipe("[update]\nurl = \"http://u.example\"\nverify = false\n");
        let warning = define(&mut image, &open).unwrap().unwrap();
        assert!(
            warning.contains("whatever http://u.example offers"),
            "{warning}"
        );
        let uki = image.read_text("/usr/lib/sysupdate.d/30-uki.transfer");
        assert!(uki.unwrap().unwrap().contains("\nVerify=no\n"));
        // The recipe's own file stays.
        assert_eq!(image.read_text(own).unwrap().unwrap(), "own\n");
    }

    #[test]
    fn what_is_missing_is_named() {
        let spool = testing::spool();
        for (left, words) in [(1, "\"systemd-container\""), (2, "\"gpg\"")] {
            let mut image = testing::image(&spool, &FILES[..left]);
            let error = define(&mut image, &recipe(SIGNED)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let mut image = testing::image(&spool, &[]);
        let plain = recipe("");
        let before = image.tree.clone();
        assert_eq!(define(&mut image, &plain).unwrap(), None);
        assert_eq!(image.tree, before);
    }
}
