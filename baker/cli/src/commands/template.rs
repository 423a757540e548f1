//! Templates of recipes: those of this repository, inside the program, or any recipe's folder.
//!
//! A template is a recipe that is baked and booted by the tests of this repository, so it cannot
//! rot. What is written for a new recipe is the template's own text with a few values changed, and
//! the documentation of each key as a comment where the template has none.

use std::path::{Path, PathBuf};

use baker_model::recipe::{self, Recipe};
use serde_json::Value as Json;
use toml_edit::{Array, Decor, DocumentMut, Item, Table, value};

use crate::exit::{Exit, Failure};
use crate::source::RecipeFolder;

/// What a comment in a recipe may be wide, without `# `.
const COMMENT_WIDTH: usize = 96;

/// The comment by which editors find the schema.
pub const SCHEMA_FILE: &str = "recipe.schema.json";

/// A recipe inside this program.
struct Embedded {
    name: &'static str,
    text: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

/// The recipes of this repository, with the files that each names.
macro_rules! embedded {
    ($($name:literal: [$($file:literal),*],)*) => {
        &[$(Embedded {
            name: $name,
            text: include_str!(concat!("../../../../recipes/", $name, "/recipe.toml")),
            files: &[$((
                $file,
                include_bytes!(concat!("../../../../recipes/", $name, "/", $file)),
            )),*],
        }),*]
    };
}

const EMBEDDED: &[Embedded] = embedded! {
    "minimal": [],
    "web": ["files/index.html"],
    "ssh-host": [],
    "database": [
        "files/pg_hba.conf",
        "files/postgresql-cluster.service",
        "files/postgresql-setup.service",
        "files/postgresql.conf",
        "files/postgresql.service"
    ],
    "container-host": [
        "files/archive.sh",
        "files/containers.conf",
        "files/hello-archive.service",
        "files/hello.service",
        "files/policy.json"
    ],
    "ci-runner": [],
    "router": ["files/nftables.conf"],
    "rescue": ["files/rescue-selftest"],
    "keeper": [],
    "one-binary": ["files/serve.c"],
};

/// A recipe to begin with.
#[derive(Debug)]
pub struct Template {
    /// What a person called it.
    name: String,
    /// Its `recipe.toml`.
    text: String,
    /// The files that it names, by their path in its folder.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// What the new recipe has of its own.
#[derive(Debug)]
pub struct Wishes {
    /// Name.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// Suite; the template's when empty.
    pub suite: String,
    /// Packages beside the template's.
    pub packages: Vec<String>,
    /// Host name; the recipe's name when there is none.
    pub host_name: Option<String>,
    /// Whether UKI and loader are to be signed.
    pub secure_boot: bool,
}

/// The names of the templates inside the program.
pub fn names() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|embedded| embedded.name)
}

impl Template {
    /// A template inside the program, or the recipe in a folder.
    pub fn find(from: &str) -> Result<Self, Failure> {
        if let Some(found) = EMBEDDED.iter().find(|embedded| embedded.name == from) {
            let files = found.files.iter();
            return Ok(Self {
                name: from.to_owned(),
                text: found.text.to_owned(),
                files: files
                    .map(|(path, bytes)| (PathBuf::from(path), bytes.to_vec()))
                    .collect(),
            });
        }
        let path = Path::new(from);
        if !path.exists() {
            let known: Vec<_> = names().collect();
            let problem = format!("`{from}` is no template and no folder of a recipe");
            let help = format!("templates: {}", known.join(", "));
            return Err(Failure::message(Exit::Usage, problem).help(help));
        }
        let folder = RecipeFolder::read(path)?;
        let named = folder.files()?;
        let files = named.iter().map(|file| {
            let bytes = folder.read_file(&file.path)?;
            Ok((PathBuf::from(&file.path), bytes))
        });
        Ok(Self {
            name: from.to_owned(),
            files: files.collect::<Result<_, Failure>>()?,
            text: folder.text,
        })
    }

    /// The suite that it takes packages from.
    pub fn suite(&self) -> Result<String, Failure> {
        let document = self.document()?;
        let suite = document
            .get("debian")
            .and_then(|debian| debian.get("suite"));
        let suite = suite.and_then(Item::as_str);
        Ok(suite.unwrap_or_default().to_owned())
    }

    /// The text of the new recipe, which is sure to parse.
    pub fn written(&self, wishes: &Wishes) -> Result<String, Failure> {
        let mut document = self.document()?;
        set(&mut document, wishes);
        comment(&mut document, &recipe::schema());
        let head = format!(
            "#:schema ../{SCHEMA_FILE}\n# Made by `baker new` from {}.\n",
            self.name
        );
        let text = format!("{head}{}", document.to_string().trim_start());
        match Recipe::parse(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::message(
                Exit::Recipe,
                format!("this makes no recipe: {}", error.problem),
            )),
        }
    }

    fn document(&self) -> Result<DocumentMut, Failure> {
        self.text.parse().map_err(|error: toml_edit::TomlError| {
            Failure::new(Exit::Recipe, error).context(format!("cannot use `{}`", self.name))
        })
    }
}

/// Puts the wishes into the template.
fn set(document: &mut DocumentMut, wishes: &Wishes) {
    document["name"] = value(&wishes.name);
    document["summary"] = value(&wishes.summary);
    // What stands above the name is about the template.
    if let Some(mut name) = document.key_mut("name") {
        name.leaf_decor_mut().clear();
    }
    if !wishes.suite.is_empty() {
        document["debian"]["suite"] = value(&wishes.suite);
    }
    let packages = document["debian"]["packages"].or_insert(value(Array::new()));
    if let Some(packages) = packages.as_array_mut() {
        for package in &wishes.packages {
            if !packages.iter().any(|known| known.as_str() == Some(package)) {
                packages.push(package);
            }
        }
    }
    if let Some(host_name) = &wishes.host_name {
        let system = document
            .entry("system")
            .or_insert(Item::Table(Table::new()));
        system["host-name"] = value(host_name);
    } else if let Some(system) = document.get_mut("system").and_then(Item::as_table_mut) {
        system.remove("host-name");
    }
    if wishes.secure_boot {
        let boot = document.entry("boot").or_insert(Item::Table(Table::new()));
        boot["secure-boot"] = value(true);
        return;
    }
    if let Some(boot) = document.get_mut("boot").and_then(Item::as_table_mut) {
        boot.remove("secure-boot");
        if boot.is_empty() {
            document.remove("boot");
        }
    }
    let tests = document
        .get_mut("test")
        .and_then(Item::as_array_of_tables_mut);
    for test in tests.into_iter().flat_map(|tests| tests.iter_mut()) {
        let firmware = test.get("firmware").and_then(Item::as_str);
        if firmware == Some("uefi-secure") {
            test["firmware"] = value("uefi");
        }
    }
}

/// Writes above each key and table what it is, where the template says nothing.
fn comment(document: &mut DocumentMut, schema: &Json) {
    for (mut key, item) in document.iter_mut() {
        let property = &schema["properties"][key.get()];
        let keys = &resolved(schema, property)["properties"];
        let first = match item {
            Item::Value(_) => {
                explain(key.leaf_decor_mut(), property, "");
                continue;
            }
            Item::Table(table) => Some(table),
            Item::ArrayOfTables(tables) => tables.get_mut(0),
            Item::None => None,
        };
        let Some(table) = first else { continue };
        explain(table.decor_mut(), property, "\n");
        for (mut key, item) in table.iter_mut() {
            if item.is_value() {
                let name = key.get().to_owned();
                explain(key.leaf_decor_mut(), &keys[&name], "");
            }
        }
    }
}

/// What a property refers to: the table itself, that of each element, or that of an optional one.
fn resolved<'a>(schema: &'a Json, property: &'a Json) -> &'a Json {
    let direct = [
        &property["$ref"],
        &property["allOf"][0]["$ref"],
        &property["anyOf"][0]["$ref"],
        &property["items"]["$ref"],
    ];
    let reference = direct.into_iter().find_map(Json::as_str);
    let pointer = reference.and_then(|reference| reference.strip_prefix('#'));
    pointer
        .and_then(|pointer| schema.pointer(pointer))
        .unwrap_or(property)
}

/// Puts the first paragraph of a description above something, unless a comment is there.
fn explain(decor: &mut Decor, property: &Json, before: &str) {
    let present = decor.prefix().and_then(|prefix| prefix.as_str());
    if present.is_some_and(|text| text.contains('#')) {
        return;
    }
    let Some(description) = property["description"].as_str() else {
        return;
    };
    let paragraph = description.split("\n\n").next().unwrap_or_default();
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < COMMENT_WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!(" {word}")),
        }
    }
    let comment: String = lines.iter().map(|line| format!("#{line}\n")).collect();
    decor.set_prefix(format!("{before}{comment}"));
}
