//! What a person names to look at: a release, a draft, a recipe, or any disk image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baker_build::look::{Look, look};
use baker_formats::io::Part;
use baker_formats::medium::MediumError;
use baker_model::manifest::FileRole;
use baker_model::{Lock, Manifest};

use super::{LOCK, RECIPE};
use crate::exit::{Exit, Failure};
use crate::source::RecipeFolder;

/// Something to look at.
pub struct Artefact {
    /// How it is called: name and version, or the name of the file.
    pub name: String,
    /// What it says of itself, of a release or draft. It is not verified here.
    pub manifest: Option<Manifest>,
    /// Recipe and lock, where they are.
    pub recipe: Option<(RecipeFolder, Option<Lock>)>,
    /// Its disk; none of a recipe.
    disk: Option<PathBuf>,
}

impl Artefact {
    /// Reads what is small of `path`.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() && path.join(baker_ship::MANIFEST).is_file() {
            return Self::release(path);
        }
        if path.is_dir() || path.extension().is_some_and(|end| end == "toml") {
            let folder = RecipeFolder::read(path).map_err(|failure| match path.is_dir() {
                true => failure.help(
                    "name a release, a draft, a recipe or a disk image: a folder with a \
                     manifest.json or a recipe.toml, or a file",
                ),
                false => failure,
            })?;
            let lock = folder.read_lock()?;
            let recipe = &folder.recipe;
            return Ok(Self {
                name: format!("recipe {} {}", recipe.name, recipe.version),
                manifest: None,
                recipe: Some((folder, lock)),
                disk: None,
            });
        }
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            manifest: None,
            recipe: None,
            disk: Some(path.to_owned()),
        })
    }

    fn release(path: &Path) -> Result<Self, Failure> {
        let file = path.join(baker_ship::MANIFEST);
        let unusable = |error: anyhow::Error| {
            Failure::new(Exit::Verify, error).context(format!("cannot use {}", file.display()))
        };
        let bytes = fs::read(&file).map_err(|error| unusable(error.into()))?;
        let manifest = Manifest::parse(&bytes).map_err(|error| unusable(error.into()))?;
        let disk = manifest.file(FileRole::Disk);
        // The manifest may be anybody's: a name that leaves the folder is not followed.
        let disk = disk.filter(|file| !file.name.split('/').any(|part| part == ".."));
        let recipe = if path.join(RECIPE).is_file() && path.join(LOCK).is_file() {
            let folder = RecipeFolder::read(path)?;
            let lock = folder.read_lock()?;
            Some((folder, lock))
        } else {
            None
        };
        Ok(Self {
            name: format!("{} {}", manifest.name, manifest.version),
            disk: disk.map(|file| path.join(file.name.trim_start_matches('/'))),
            manifest: Some(manifest),
            recipe,
        })
    }

    /// Opens its disk; none of a recipe.
    pub fn look(&self) -> Result<Option<Look>, Failure> {
        let Some(path) = &self.disk else {
            return Ok(None);
        };
        let unreadable = |error| {
            Failure::new(Exit::Usage, error).context(format!("cannot read {}", path.display()))
        };
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let opened = look(Part::new(Arc::new(file), size)).map_err(|error| {
            let mend = match &error {
                baker_build::look::LookError::Medium(error) => MediumError::mend(error),
                _ => None,
            };
            Failure::new(Exit::Usage, error)
                .context(format!("cannot look into {}", path.display()))
                .help_if(mend)
        })?;
        Ok(Some(opened))
    }
}
