//! Recipes that extend others, and profiles: one table made of several.
//!
//! Takes tables as parsed; gives the table of the whole. Reads no file: who extends whom is found
//! by the caller.

use toml::{Table, Value};

/// Key that names the folder of the recipe that this one extends.
pub const EXTENDS: &str = "extends";

/// Key of the profiles.
pub const PROFILE: &str = "profile";

/// Tables of which those of the child stand in the place of all of the parent's: what proves the
/// parent may be wrong for the child.
const WHOLE: [&str; 1] = ["test"];

/// What tells entries of a list of tables apart: those of them that an entry has.
const IDENTITIES: [&str; 6] = ["path", "name", "question", "package", "script", "rule"];

/// Keys whose text is the path of a file beside the recipe.
const SOURCES: [&str; 3] = ["source", "authorized-keys-file", "keyring"];

/// Keys whose texts all are.
const SOURCE_LISTS: [&str; 1] = ["certificates"];

/// How the files of a recipe that is extended are called in the recipe that extends it.
#[must_use]
pub fn prefix(name: &str) -> String {
    format!("@{name}/")
}

/// Adds a child to what it extends. Values of the child win; tables are merged; lists are joined,
/// where a text that is there already is not repeated and a table takes the place of the one with
/// the same `path` or `name`. Its `[[test]]` tables, when it has any, replace all.
pub fn merge(whole: &mut Table, child: Table) {
    for (key, value) in child {
        match (whole.get_mut(&key), value) {
            (Some(Value::Table(there)), Value::Table(more)) => merge(there, more),
            (Some(Value::Array(there)), Value::Array(more)) if !WHOLE.contains(&key.as_str()) => {
                join(there, more);
            }
            (_, value) => {
                whole.insert(key, value);
            }
        }
    }
}

fn join(there: &mut Vec<Value>, more: Vec<Value>) {
    let inherited = there.len();
    for value in more {
        let mut old = there.iter_mut().take(inherited);
        let same = old.find(|old| is_same(old, &value));
        match same {
            Some(old) => *old = value,
            None => there.push(value),
        }
    }
}

fn is_same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Table(old), Value::Table(new)) => {
            let has_one = IDENTITIES.iter().any(|key| new.contains_key(*key));
            let mut identities = IDENTITIES.iter();
            has_one && identities.all(|key| old.get(*key) == new.get(*key))
        }
        (old, new) => old == new,
    }
}

/// Puts a prefix before the path of every local file that the table names.
pub fn relocate(table: &mut Table, prefix: &str) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::String(text) if SOURCES.contains(&key.as_str()) => text.insert_str(0, prefix),
            Value::Array(list) if SOURCE_LISTS.contains(&key.as_str()) => {
                for value in list {
                    if let Value::String(text) = value {
                        text.insert_str(0, prefix);
                    }
                }
            }
            Value::Table(table) => relocate(table, prefix),
            Value::Array(list) => {
                let tables = list.iter_mut().filter_map(Value::as_table_mut);
                tables.for_each(|table| relocate(table, prefix));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_child_wins_and_lists_are_joined() {
        let mut whole = table(
            "name = \"base\"\n[debian]\nsuite = \"trixie\"\npackages = [\"systemd\", \"dbus\"]\n\
             [[file]]\npath = \"/a\"\ncontent = \"1\"\n[[file]]\npath = \"/b\"\ncontent = \"1\"\n\
             [[test]]\nfirmware = \"uefi\"\n[[test]]\nfirmware = \"direct\"\n",
        );
        let child = table(
            "name = \"web\"\n[debian]\npackages = [\"dbus\", \"nginx\"]\n\
             [[file]]\npath = \"/b\"\nmode = \"0600\"\n[[file]]\npath = \"/c\"\n\
             [[test]]\nfirmware = \"bios\"\n",
        );
        merge(&mut whole, child);
        let expected = table(
            "name = \"web\"\n[debian]\nsuite = \"trixie\"\n\
             packages = [\"systemd\", \"dbus\", \"nginx\"]\n\
             [[file]]\npath = \"/a\"\ncontent = \"1\"\n[[file]]\npath = \"/b\"\nmode = \"0600\"\n\
             [[file]]\npath = \"/c\"\n[[test]]\nfirmware = \"bios\"\n",
        );
        assert_eq!(whole, expected);
    }

    #[test]
    fn every_local_file_is_found_in_the_folder_that_named_it() {
        let mut found = table(
            "[[file]]\npath = \"/a\"\nsource = \"files/a\"\n[update]\nkeyring = \"k.gpg\"\n\
             url = \"https://h/\"\n[system]\ncertificates = [\"c.pem\"]\n\
             [[stage]]\n[[stage.input]]\nsource = \"src\"\n",
        );
        relocate(&mut found, &prefix("base"));
        let expected = table(
            "[[file]]\npath = \"/a\"\nsource = \"@base/files/a\"\n[update]\n\
             keyring = \"@base/k.gpg\"\nurl = \"https://h/\"\n[system]\n\
             certificates = [\"@base/c.pem\"]\n[[stage]]\n[[stage.input]]\nsource = \"@base/src\"\n",
        );
        assert_eq!(found, expected);
    }
}
