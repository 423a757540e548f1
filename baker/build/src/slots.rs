//! What the recipe's tables ask of command line and modules beyond what it names: two slots, a data
//! partition, `/etc` that can be written. What they ask of the root is a part of `configure`.
//!
//! Takes the recipe; gives words and names. Reads nothing.

use baker_contract::ON_FAILURE_KEY;
use baker_model::Recipe;
use baker_model::recipe::{ModuleWord, RootModules};

use crate::configure::{ESP_MODULES, ETC_MODULE, data_modules};

/// What the initrd brings where the kernel has it as a module. systemd mounts `efivarfs` before it
/// runs the generator that looks there for the name that the loader booted, and cannot ask for
/// the module: a sealed root need not have modprobe. It also looks for its watchdog when it
/// starts; drivers of real machines' watchdogs are loaded by udev, a little later.
const EARLY: [&str; 2] = ["efivarfs", "i6300esb"];

/// Words of the kernel command line: the recipe's, and with two slots those that turn a failure
/// into a reboot, unless the recipe has words of its own for it.
#[must_use]
pub fn command_line(recipe: &Recipe) -> Vec<String> {
    let mut words = recipe.kernel.command_line.clone();
    if recipe.disk.slots == 2 {
        for (key, value) in [("panic", "-1"), (ON_FAILURE_KEY, "reboot")] {
            let given = |word: &String| {
                let rest = word.strip_prefix(key);
                rest.is_some_and(|rest| rest.starts_with('='))
            };
            if !words.iter().any(given) {
                words.push(format!("{key}={value}"));
            }
        }
    }
    words
}

/// Modules of the root: the recipe's, and those that its tables cannot do without.
#[must_use]
pub fn root_modules(recipe: &Recipe) -> RootModules {
    let asked = &recipe.kernel.root_modules;
    let needed = needed(recipe);
    let mut names = match asked {
        _ if needed.is_empty() => return asked.clone(),
        RootModules::Word(ModuleWord::All) => return asked.clone(),
        RootModules::Word(ModuleWord::None) => Vec::new(),
        RootModules::Named(names) => names.clone(),
    };
    for name in needed {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    RootModules::Named(names)
}

fn needed(recipe: &Recipe) -> Vec<String> {
    let mut names = recipe.modules.load.clone();
    let mut add = |more: &[&str]| names.extend(more.iter().map(|&name| name.to_owned()));
    if recipe.disk.slots == 2 {
        add(&ESP_MODULES);
    }
    if let Some(data) = &recipe.disk.data {
        add(&data_modules(data));
    }
    if recipe.root.etc_overlay {
        add(&[ETC_MODULE]);
    }
    names
}

/// Modules of the initrd that are taken when the kernel has them.
#[must_use]
pub fn optional_initrd_modules(recipe: &Recipe) -> &'static [&'static str] {
    match recipe.disk.slots {
        2 => &EARLY,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(kernel: &str, slots: u8) -> Recipe {
        let text = format!(
            "name = \"x\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\npackages = []\n\
             [kernel]\npackage = \"k\"\n{kernel}\n[disk]\nslots = {slots}\n"
        );
        Recipe::parse(&text).unwrap()
    }

    #[test]
    fn failures_reboot_with_two_slots() {
        let rows = [
            ("command-line = [\"quiet\"]", 1, "quiet"),
            (
                "command-line = [\"quiet\"]",
                2,
                "quiet panic=-1 baker.on-failure=reboot",
            ),
            (
                "command-line = [\"panic=9\", \"panic_on_warn\"]",
                2,
                "panic=9 panic_on_warn baker.on-failure=reboot",
            ),
        ];
        for (kernel, slots, expected) in rows {
            assert_eq!(command_line(&recipe(kernel, slots)).join(" "), expected);
        }
    }

    #[test]
    fn blessing_has_its_modules() {
        let named = |names: &[&str]| {
            RootModules::Named(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let rows = [
            (
                "root-modules = \"all\"",
                2,
                RootModules::Word(ModuleWord::All),
            ),
            (
                "root-modules = \"none\"",
                1,
                RootModules::Word(ModuleWord::None),
            ),
            (
                "root-modules = \"none\"",
                2,
                named(&["nls_cp437", "nls_ascii", "vfat"]),
            ),
            (
                "root-modules = [\"vfat\"]",
                2,
                named(&["vfat", "nls_cp437", "nls_ascii"]),
            ),
        ];
        for (kernel, slots, expected) in rows {
            assert_eq!(root_modules(&recipe(kernel, slots)), expected, "{kernel}");
        }
    }
}
