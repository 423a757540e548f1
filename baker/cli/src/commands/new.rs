//! `baker new`

use std::fs;
use std::path::{Path, PathBuf};

use baker_fetch::resolve::Request;
use baker_model::recipe::{self, is_name};

use super::schema;
use super::template::{self, SCHEMA_FILE, Template, Wishes};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ui::Questions;
use crate::workdir::{WorkFolder, write_atomically};

/// Writes a recipe of your own, made from one that works.
///
/// On a terminal it asks for what no option says; elsewhere, and with --yes, it
/// takes the template's values. Nothing is ever overwritten.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the recipe and of its releases: a-z, 0-9 and -
    #[arg(value_parser = name)]
    name: String,
    /// What to begin with: a recipe of baker's own, such as web or database, or the
    /// folder of one
    #[arg(long, value_name = "TEMPLATE")]
    from: Option<String>,
    /// Folder of recipes to write into
    #[arg(long, value_name = "FOLDER", default_value = "recipes")]
    to: PathBuf,
    /// One line about it
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
    /// Suite that packages come from, such as trixie
    #[arg(long, value_parser = suite)]
    suite: Option<String>,
    /// Package beside those of the template; may be repeated
    #[arg(long = "package", value_name = "PACKAGE", value_delimiter = ',', value_parser = package)]
    packages: Option<Vec<String>>,
    /// Host name of the machines, when it is not the name of the recipe
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    host_name: Option<String>,
    /// Sign UKI and loader, so that firmware can check what it starts; a release
    /// needs keys then (baker key secure-boot)
    #[arg(long)]
    secure_boot: bool,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let target = args.to.join(&args.name);
    if target.symlink_metadata().is_ok() {
        let problem = format!("{} is there already", target.display());
        let help = "choose another name; nothing is ever overwritten";
        return Err(Failure::message(Exit::Usage, problem).help(help));
    }
    let mut questions = Questions::of_process(context.printer(), context.interrupt());
    if args.yes {
        questions = questions.silent();
    }
    let template = template(args, &questions)?;
    let wishes = wishes(args, &template, &questions)?;
    let text = template.written(&wishes)?;
    write(args, &template, &text).map_err(|error| {
        Failure::new(Exit::Recipe, error)
            .context(format!("cannot write {}", target.display()))
            .help("name a folder that you can write to with --to FOLDER")
    })?;
    write_schema(&args.to)?;
    let next =
        ["lock", "fetch", "bake"].map(|command| format!("baker {command} {}", target.display()));
    let value = serde_json::json!({ "recipe": target, "next": next });
    context.answer(&target.display().to_string(), &value)?;
    for (command, before) in next.iter().zip(["next: ", "      ", "      "]) {
        context.printer().say(&format!("{before}{command}"));
    }
    Ok(())
}

fn template(args: &Args, questions: &Questions<'_>) -> Result<Template, Failure> {
    if let Some(from) = &args.from {
        return Template::find(from);
    }
    let known: Vec<_> = template::names().collect();
    let question = format!("Template ({}, or the folder of a recipe)", known.join(", "));
    let from = questions.ask(&question, "minimal", |text| {
        Template::find(text)
            .map(drop)
            .map_err(|failure| failure.causes().join(": "))
    })?;
    Template::find(&from)
}

/// What the options say, and for the rest a person.
fn wishes(args: &Args, template: &Template, questions: &Questions<'_>) -> Result<Wishes, Failure> {
    let any = |_: &str| Ok(());
    let ask = |given: &Option<String>,
               question: &str,
               default: &str,
               check: &dyn Fn(&str) -> Result<(), String>| match given {
        Some(given) => Ok(given.clone()),
        None => questions.ask(question, default, check),
    };
    let summary = ask(&args.summary, "One line about it", &args.name, &any)?;
    let of_template = template.suite()?;
    let checked = |text: &str| suite(text).map(drop);
    let suite = ask(&args.suite, "Suite", &of_template, &checked)?;
    let packages = match &args.packages {
        Some(packages) => packages.clone(),
        None => {
            let all = |text: &str| {
                text.split_whitespace()
                    .try_for_each(|one| package(one).map(drop))
            };
            let more = questions.ask("More packages", "", all)?;
            more.split_whitespace().map(str::to_owned).collect()
        }
    };
    let checked = |text: &str| host_name(text).map(drop);
    let host_name = ask(&args.host_name, "Host name", &args.name, &checked)?;
    let secure_boot = args.secure_boot
        || questions.ask("Sign for Secure Boot? (yes, no)", "no", |text| match text {
            "yes" | "no" => Ok(()),
            _ => Err("answer yes or no".to_owned()),
        })? == "yes";
    Ok(Wishes {
        name: args.name.clone(),
        summary,
        suite,
        packages,
        // A machine is called as its recipe anyway.
        host_name: (host_name != args.name).then_some(host_name),
        secure_boot,
    })
}

/// Writes the folder beside its place and renames it: half a recipe is never there.
fn write(args: &Args, template: &Template, text: &str) -> std::io::Result<()> {
    let work = WorkFolder::new(&args.to, &args.name)?;
    let folder = work.path().join(&args.name);
    fs::create_dir(&folder)?;
    fs::write(folder.join("recipe.toml"), text)?;
    for (path, bytes) in &template.files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    fs::rename(&folder, args.to.join(&args.name))
}

/// The schema for editors beside the recipes, unless one is there.
fn write_schema(folder: &Path) -> Result<(), Failure> {
    let path = folder.join(SCHEMA_FILE);
    if path.exists() {
        return Ok(());
    }
    let text = schema::text(&recipe::schema())?;
    write_atomically(&path, format!("{text}\n").as_bytes()).map_err(|error| {
        Failure::new(Exit::Recipe, error).context(format!("cannot write {}", path.display()))
    })
}

fn name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("use a-z, 0-9 and -, at most 32 characters".to_owned()),
    }
}

fn suite(text: &str) -> Result<String, String> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    match text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("a suite is a word like trixie".to_owned()),
    }
}

fn package(text: &str) -> Result<String, String> {
    match Request::parse(text, "any") {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// One label of RFC 1123, which is what `/etc/hostname` wants.
fn host_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let good = (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-');
    match good {
        true => Ok(text.to_owned()),
        false => Err("a host name has letters, digits and -, at most 63".to_owned()),
    }
}
