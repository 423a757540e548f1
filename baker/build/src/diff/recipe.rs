//! Values of recipes, key by key.

use std::collections::{BTreeMap, BTreeSet};

use baker_model::recipe::Recipe;
use serde::Serialize;

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ValueChange {
    /// Where it stands: `kernel.command-line`, `file[2].content`.
    pub key: String,
    /// As the first recipe has it, as TOML.
    pub from: Option<String>,
    /// As the second recipe has it.
    pub to: Option<String>,
}

/// The values that differ, defaults included.
pub(super) fn compare(from: &Recipe, to: &Recipe) -> Vec<ValueChange> {
    let (from, to) = (values(from), values(to));
    let keys: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    keys.into_iter()
        .filter(|key| from.get(*key) != to.get(*key))
        .map(|key| ValueChange {
            key: key.clone(),
            from: from.get(key).cloned(),
            to: to.get(key).cloned(),
        })
        .collect()
}

fn values(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    // A recipe holds only plain data; were that to change, there would be no value to compare.
    if let Ok(value) = toml::Value::try_from(recipe) {
        flatten(String::new(), &value, &mut values);
    }
    values
}

fn flatten(key: String, value: &toml::Value, values: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let key = match key.as_str() {
                    "" => name.clone(),
                    key => format!("{key}.{name}"),
                };
                flatten(key, value, values);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                flatten(format!("{key}[{}]", index + 1), item, values);
            }
        }
        plain => {
            values.insert(key, plain.to_string());
        }
    }
}
