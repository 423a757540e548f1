//! `baker diff`

use std::path::{Path, PathBuf};

use baker_build::diff::{self, OpenDisk, Side};
use baker_build::look::{Look, Owners, Survey, survey};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::Artefact;
use crate::ui::difference_text;
use crate::workdir::write_atomically;

/// Compares two releases, drafts, recipes or disk images, in any mix: packages,
/// files, configuration, units, kernel command line, modules, sizes.
///
/// Exits with 0 also when they differ; with --exit-code, with 12 then.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a release, draft or recipe, or a disk image
    from: PathBuf,
    /// What it is compared to
    to: PathBuf,
    /// Answer with Markdown, for a comment of a review
    #[arg(long)]
    markdown: bool,
    /// Write a page with a picture of sizes to this file, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit with 12 when there are differences
    #[arg(long)]
    exit_code: bool,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let (from, to) = (Opened::read(&args.from)?, Opened::read(&args.to)?);
    let found = diff::diff(&from.side(), &to.side(), context.interrupt()).map_err(|error| {
        context
            .failure(Exit::Usage, error)
            .context("cannot compare the two")
    })?;
    if let Some(path) = &args.html {
        write_page(path, &diff::html(&found))?;
    }
    let text = match args.markdown {
        true => diff::markdown(&found).trim_end().to_owned(),
        false => difference_text(&found),
    };
    context.answer(&text, &found)?;
    if args.exit_code && !found.is_equal() {
        let problem = format!("{} and {} differ", found.from, found.to);
        return Err(Failure::message(Exit::Different, problem));
    }
    Ok(())
}

fn write_page(path: &Path, page: &str) -> Result<(), Failure> {
    write_atomically(path, page.as_bytes()).map_err(|error| {
        Failure::new(Exit::Internal, error)
            .context(format!("cannot write {}", path.display()))
            .help("name a file that you can write to with --html")
    })
}

/// A side with its disk open.
struct Opened {
    artefact: Artefact,
    disk: Option<(Look, Survey, Owners)>,
}

impl Opened {
    fn read(path: &Path) -> Result<Self, Failure> {
        let artefact = Artefact::read(path)?;
        let disk = match artefact.look()? {
            None => None,
            Some(look) => {
                let surveyed = survey(&look).map_err(|error| {
                    Failure::new(Exit::Usage, error)
                        .context(format!("cannot read the root of {}", path.display()))
                })?;
                let Some((survey, owners)) = surveyed else {
                    let problem = format!("{} has no root that can be read", path.display());
                    return Err(Failure::message(Exit::Usage, problem)
                        .help(format!("look into it: baker inspect {}", path.display())));
                };
                Some((look, survey, owners))
            }
        };
        Ok(Self { artefact, disk })
    }

    fn side(&self) -> Side<'_> {
        let disk = self.disk.as_ref();
        let recipe = self.artefact.recipe.as_ref();
        Side {
            name: &self.artefact.name,
            disk: disk.map(|(look, survey, owners)| OpenDisk {
                look,
                survey,
                owners,
            }),
            recipe: recipe.map(|(folder, _)| &folder.recipe),
            lock: recipe.and_then(|(_, lock)| lock.as_ref()),
        }
    }
}
