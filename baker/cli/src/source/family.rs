//! A recipe with all that it extends, and with one of its profiles.

use std::fs;
use std::path::{Path, PathBuf};

use baker_model::Recipe;
use baker_model::recipe::family::{EXTENDS, PROFILE, merge, prefix, relocate};
use baker_model::recipe::{Preseed, RecipeError};
use toml::Table;

use super::{Ancestor, RecipeFolder};
use crate::exit::{Exit, Failure};

/// How long a chain of recipes may be that extend one another.
const LONGEST: usize = 16;

/// One file of the chain.
struct Member {
    file: PathBuf,
    text: String,
    table: Table,
}

/// Reads the recipe at `path`, or one of its profiles.
pub(super) fn read(path: &Path, profile: Option<&str>) -> Result<RecipeFolder, Failure> {
    let file = match path.is_dir() {
        true => path.join("recipe.toml"),
        false => path.to_owned(),
    };
    let first = member(&file)?;
    let folder = folder_of(&file);
    let is_single = !first.table.contains_key(EXTENDS) && profile.is_none();
    if is_single {
        let recipe = Recipe::parse(&first.text).map_err(|error| told(&file, error))?;
        return Ok(RecipeFolder {
            path: folder,
            profiles: recipe.profiles.0.clone(),
            recipe,
            text: first.text,
            source: None,
            profile: None,
            ancestors: Vec::new(),
        });
    }
    let variant = profile
        .map(|name| profile_of(&first, name).map(|table| (name, table)))
        .transpose()?;
    let profiles = match profile {
        None => profiles_of(&first),
        Some(_) => Vec::new(),
    };
    let chain = chain(first)?;
    let mut family = Family::default();
    for (place, member) in chain.iter().enumerate() {
        let is_last = place + 1 == chain.len();
        family.add(member, is_last)?;
        if !is_last || variant.is_some() {
            let recipe = parsed(&family.whole, &chain)?;
            family
                .ancestors
                .push(ancestor(&recipe, folder_of(&member.file)));
        }
    }
    if let Some((name, mut table)) = variant {
        if let (false, Some(recipe)) = (table.contains_key("name"), family.name()) {
            table.insert("name".to_owned(), format!("{recipe}-{name}").into());
        }
        merge(&mut family.whole, table);
    }
    Ok(RecipeFolder {
        path: folder,
        recipe: parsed(&family.whole, &chain)?,
        text: text(&family.whole),
        source: None,
        profile: profile.map(str::to_owned),
        profiles,
        ancestors: family.ancestors,
    })
}

/// What is merged so far.
#[derive(Default)]
struct Family {
    whole: Table,
    ancestors: Vec<Ancestor>,
}

impl Family {
    /// The name of the last member.
    fn name(&self) -> Option<String> {
        let name = self.whole.get("name")?;
        name.as_str().map(str::to_owned)
    }

    fn add(&mut self, member: &Member, is_last: bool) -> Result<(), Failure> {
        let name = member.table.get("name").and_then(toml::Value::as_str);
        if let Some(parent) = self.ancestors.last() {
            let mut names = self.ancestors.iter().map(|known| known.name.as_str());
            if name.is_none() || names.any(|known| Some(known) == name) {
                return Err(needs_name(member, &parent.name));
            }
        }
        let mut table = member.table.clone();
        table.remove(EXTENDS);
        table.remove(PROFILE);
        if let (false, Some(name)) = (is_last, name) {
            // Its files get names that tell them from the child's.
            relocate(&mut table, &prefix(name));
        }
        merge(&mut self.whole, table);
        Ok(())
    }
}

/// The table of one of the profiles.
fn profile_of(member: &Member, name: &str) -> Result<Table, Failure> {
    let all = member.table.get(PROFILE);
    let table = all.and_then(|all| all.get(name)?.as_table());
    table.cloned().ok_or_else(|| unknown_profile(member, name))
}

/// The member and all that it extends, itself last.
fn chain(first: Member) -> Result<Vec<Member>, Failure> {
    let mut chain = vec![first];
    while let Some(last) = chain.last()
        && let Some(extends) = last.table.get(EXTENDS)
    {
        let Some(extends) = extends.as_str() else {
            let problem = format!("{}: `extends` is no text", last.file.display());
            let help = "name the folder of the other recipe: extends = \"../base\"";
            return Err(Failure::message(Exit::Recipe, problem).help(help));
        };
        if chain.len() == LONGEST {
            let problem = format!("{} extends itself over others", chain[0].file.display());
            let help = "let one of them extend none";
            return Err(Failure::message(Exit::Recipe, problem).help(help));
        }
        let file = folder_of(&last.file).join(extends).join("recipe.toml");
        let parent = member(&file).map_err(|failure| {
            failure.context(format!("{} extends {extends}", last.file.display()))
        })?;
        chain.push(parent);
    }
    chain.reverse();
    Ok(chain)
}

fn member(file: &Path) -> Result<Member, Failure> {
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::new(Exit::Recipe, error)
            .context(format!("cannot read the recipe {}", file.display()))
            .help("name a folder that holds a recipe.toml, such as recipes/minimal")
    })?;
    let table = text.parse::<Table>().map_err(|error| {
        let error = RecipeError::syntax(&text, &error);
        told(file, error)
    })?;
    Ok(Member {
        file: file.to_owned(),
        text,
        table,
    })
}

fn folder_of(file: &Path) -> PathBuf {
    let parent = file.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

fn ancestor(recipe: &Recipe, path: PathBuf) -> Ancestor {
    Ancestor {
        name: recipe.name.clone(),
        path,
        answers: recipe.debian.preseeds.iter().map(Preseed::line).collect(),
        runs: recipe.runs.iter().map(|run| run.name.clone()).collect(),
    }
}

/// The text of a merged table: what a release holds, and what others read of it.
fn text(whole: &Table) -> String {
    let head = "# Several files in one: this recipe and what it extends.\n";
    format!("{head}{whole}")
}

fn parsed(whole: &Table, chain: &[Member]) -> Result<Recipe, Failure> {
    let text = text(whole);
    Recipe::parse(&text).map_err(|error| placed(&text, error, chain))
}

/// Finds the line that is wrong in the file that it was written in.
fn placed(text: &str, error: RecipeError, chain: &[Member]) -> Failure {
    let line = text.lines().nth(error.line - 1).unwrap_or_default();
    let words = match line.split_once('=') {
        Some((key, value)) => [key.trim(), value.trim()],
        None => [line.trim(), ""],
    };
    let found = chain.iter().rev().find_map(|member| {
        let mut lines = member.text.lines().enumerate();
        let number = lines
            .find(|(_, line)| words.iter().all(|word| line.contains(word)))?
            .0;
        let column = member.text.lines().nth(number)?.find(words[0])? + 1;
        let place = RecipeError {
            line: number + 1,
            column,
            ..error.clone()
        };
        Some((member, place))
    });
    match (found, chain.last()) {
        (Some((member, error)), _) => told(&member.file, error),
        (None, Some(last)) => {
            let problem = format!("{}: {}", last.file.display(), error.problem);
            Failure::message(Exit::Recipe, problem).help_if(error.hint)
        }
        (None, None) => Failure::message(Exit::Recipe, error.problem),
    }
}

fn told(file: &Path, error: RecipeError) -> Failure {
    let place = format!("{}:{}:{}", file.display(), error.line, error.column);
    Failure::message(Exit::Recipe, format!("{place}: {}", error.problem)).help_if(error.hint)
}

fn needs_name(member: &Member, parent: &str) -> Failure {
    let problem = format!(
        "{}: a recipe that extends `{parent}` needs a `name` of its own",
        member.file.display()
    );
    Failure::message(Exit::Recipe, problem).help("give every recipe of the family another name")
}

/// Names of the profiles of one file.
fn profiles_of(member: &Member) -> Vec<String> {
    let all = member.table.get(PROFILE).and_then(toml::Value::as_table);
    all.into_iter()
        .flat_map(|all| all.keys().cloned())
        .collect()
}

fn unknown_profile(member: &Member, profile: &str) -> Failure {
    let problem = format!("{} has no profile `{profile}`", member.file.display());
    let known = profiles_of(member);
    let help = match known.is_empty() {
        true => format!("add a table [profile.{profile}] with what it has beside the recipe"),
        false => format!("its profiles: {}", known.join(", ")),
    };
    Failure::message(Exit::Usage, problem).help(help)
}
