//! The JSON Schema of recipes, held against a validator of the Python archive.

use std::fs;
use std::path::Path;
use std::process::Command;

use baker_tests::program::{Baker, workspace};
use baker_tests::skip;
use serde_json::{Value, json};

/// Says for every document of a file whether it fits the schema, and that the schema is one.
const JUDGE: &str = "
import json, sys
from jsonschema import Draft7Validator
schema, documents = (json.load(open(name)) for name in sys.argv[1:])
Draft7Validator.check_schema(schema)
judge = Draft7Validator(schema)
print(json.dumps([[error.message for error in judge.iter_errors(one)] for one in documents]))
";

/// The problems of each document; none without the judge.
fn judged(folder: &Path, documents: &[Value]) -> Option<Vec<Vec<String>>> {
    let python = std::env::var_os("BAKER_SBOM_PYTHON")?;
    let schema = folder.join("schema.json");
    fs::write(&schema, Baker::new().ok(["schema"]).stdout).unwrap();
    let file = folder.join("documents.json");
    fs::write(&file, serde_json::to_vec(documents).unwrap()).unwrap();
    let output = Command::new(python)
        .args(["-c", JUDGE])
        .args([schema, file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn recipes() -> Vec<(String, Value)> {
    let folder = workspace().join("recipes");
    let entries = fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path().join("recipe.toml"));
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        Some((path.display().to_string(), toml::from_str(&text).unwrap()))
    };
    files.filter_map(read).collect()
}

#[test]
fn the_schema_takes_every_recipe_and_refuses_mistakes() {
    let scratch = tempfile::tempdir().unwrap();
    let recipes = recipes();
    assert!(recipes.len() >= 3, "{recipes:?}");
    let minimal = recipes
        .iter()
        .find(|(path, _)| path.ends_with("minimal/recipe.toml"));
    let (_, minimal) = minimal.unwrap();
    let mut documents: Vec<Value> = recipes.iter().map(|(_, value)| value.clone()).collect();
    let rows = [
        ("/nmae", json!("x"), "'nmae' was unexpected"),
        ("/debian/pakages", json!([]), "'pakages' was unexpected"),
        (
            "/test/0/firmwear",
            json!("uefi"),
            "'firmwear' was unexpected",
        ),
        ("/debian/packages", json!("nginx"), "is not of type 'array'"),
        ("/name", json!("No Name"), "does not match"),
        (
            "/kernel/root-modules",
            json!("some"),
            "is not valid under any",
        ),
        (
            "/disk",
            json!({ "formats": ["floppy"] }),
            "is not valid under any",
        ),
        (
            "/file",
            json!([{ "path": "/x", "mode": "rwx" }]),
            "does not match",
        ),
    ];
    for (place, value, _) in &rows {
        let mut wrong = minimal.clone();
        let (table, key) = place.rsplit_once('/').unwrap();
        let table = wrong.pointer_mut(table).unwrap();
        table[key] = value.clone();
        documents.push(wrong);
    }
    let mut nameless = minimal.clone();
    nameless.as_object_mut().unwrap().remove("name");
    documents.push(nameless);
    let Some(problems) = judged(scratch.path(), &documents) else {
        return skip(
            "the_schema_takes_every_recipe_and_refuses_mistakes",
            "BAKER_SBOM_PYTHON is not set; run scripts/judges",
        );
    };
    for ((path, _), problems) in recipes.iter().zip(&problems) {
        assert!(problems.is_empty(), "{path}: {problems:?}");
    }
    let expected = rows.iter().map(|(_, _, words)| *words);
    let expected = expected.chain(["'name' is a required property"]);
    for (words, problems) in expected.zip(&problems[recipes.len()..]) {
        assert!(
            problems.iter().any(|problem| problem.contains(words)),
            "no `{words}` in {problems:?}"
        );
    }
}

/// What an editor shows beside a key is the documentation of the types.
#[test]
fn every_key_is_described() {
    let schema: Value = serde_json::from_str(&Baker::new().ok(["schema"]).stdout).unwrap();
    let definitions = schema["definitions"].as_object().unwrap();
    let tables = definitions
        .iter()
        .map(|(name, table)| (name.as_str(), table));
    let mut keys = 0;
    for (name, table) in tables.chain([("recipe", &schema)]) {
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}: {key}");
            keys += 1;
        }
    }
    assert!(keys > 100, "only {keys} keys");
}
