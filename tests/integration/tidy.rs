//! The rules of the house that a machine can see.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use baker_tests::{locked_recipes, workspace};

/// Files that belong to the repository: everything but build output.
fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![below.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match name {
                "target" | "out" | ".git" => {}
                _ if path.is_dir() => todo.push(path),
                _ => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let root = workspace();
    files(&root)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn the_top_level_is_what_the_design_says() {
    let allowed = BTreeSet::from([
        "Cargo.toml",
        "Cargo.lock",
        "baker",
        "recipes",
        "firmware",
        "tests",
        "scripts",
        "README.md",
        "LICENSE",
        "clippy.toml",
        "rustfmt.toml",
        "rust-toolchain.toml",
        "target",
        "out",
    ]);
    for entry in fs::read_dir(workspace()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || allowed.contains(name.as_str()),
            "{name} has no room"
        );
    }
}

#[test]
fn no_source_file_is_past_the_wall() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(name, text)| (text.lines().count(), name))
        .filter(|(lines, _)| *lines > 600)
        .collect();
    assert!(long.is_empty(), "files of more than 600 lines: {long:?}");
}

#[test]
fn every_module_file_says_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!") && !text.starts_with("#!["))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "files without a module doc: {silent:?}");
}

#[test]
fn rooms_know_only_the_rooms_they_may() {
    let rules: [(&str, &[&str]); 7] = [
        ("baker/model", &[]),
        ("baker/formats", &["baker-model"]),
        ("baker/fetch", &["baker-model"]),
        ("baker/build", &["baker-model", "baker-formats"]),
        ("baker/vm", &["baker-model", "baker-contract"]),
        ("baker/ship", &["baker-model"]),
        ("firmware/contract", &[]),
    ];
    let network = ["reqwest", "tokio", "rustls", "qapi", "hyper"];
    for (room, known) in rules {
        let manifest = fs::read_to_string(workspace().join(room).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let empty = toml::Table::new();
        let dependencies = manifest
            .get("dependencies")
            .and_then(|table| table.as_table())
            .unwrap_or(&empty);
        for name in dependencies.keys() {
            let is_room = name.starts_with("baker-");
            // The contract names what initrd and command line must hold: build writes it, ship
            // checks it, the guest reads it.
            let contract =
                name == "baker-contract" && ["baker/build", "baker/ship"].contains(&room);
            assert!(
                !is_room || contract || known.contains(&name.as_str()),
                "{room} must not know {name}"
            );
            let offline = ["baker/model", "baker/formats", "baker/build"].contains(&room);
            assert!(
                !(offline && network.contains(&name.as_str())),
                "{room} must stay without a network, but depends on {name}"
            );
        }
    }
}

// That libraries do not print is held by clippy (`print_stdout`, `print_stderr`).

#[test]
fn main_stays_small() {
    let main = fs::read_to_string(workspace().join("baker/cli/src/main.rs")).unwrap();
    let code = main
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count();
    assert!(code <= 15, "main.rs has {code} lines of code");
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let words = [
        "#[ignore",
        "todo!(",
        "unimplemented!(",
        "should_panic",
        "#[allow(",
    ];
    for (name, text) in sources() {
        if name.ends_with("tidy.rs") {
            continue;
        }
        for word in words {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn nothing_names_a_mirror() {
    let hosts = [
        "deb.debian",
        "debian.org/debian",
        "snapshot.debian",
        "ftp.debian",
    ];
    for path in files(&workspace()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "Cargo.lock" || name == "tidy.rs" {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for host in hosts {
            assert!(!text.contains(host), "{} names a mirror", path.display());
        }
    }
}

/// Names of the recipes with a lock; one for machines of another kind has none, since its lock
/// depends on who built the guest program.
#[test]
fn the_index_has_a_row_for_every_recipe_that_is_locked() {
    let index = fs::read_to_string(workspace().join("recipes/INDEX")).unwrap();
    let rows = index.lines().filter_map(|line| line.strip_prefix("| ["));
    let listed: Vec<&str> = rows.filter_map(|row| row.split(']').next()).collect();
    assert_eq!(listed, locked_recipes(), "run: scripts/index RECIPE");
}

#[test]
fn committed_locks_fit_their_recipes() {
    for name in locked_recipes() {
        let folder = workspace().join("recipes").join(&name);
        let recipe = fs::read_to_string(folder.join("recipe.toml")).unwrap();
        let recipe = baker_model::Recipe::parse(&recipe).unwrap();
        let lock = fs::read_to_string(folder.join("recipe.lock")).unwrap();
        let lock = baker_model::Lock::parse(&lock).unwrap();
        assert_eq!(
            lock.recipe,
            recipe.digest(),
            "{name} was edited after it was locked"
        );
        for file in &lock.files {
            let bytes = fs::read(folder.join(&file.path)).unwrap();
            assert_eq!(
                file.sha256,
                baker_model::Digest::of(&bytes),
                "{name}: {}",
                file.path
            );
        }
    }
}
