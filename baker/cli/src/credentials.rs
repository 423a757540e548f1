//! Who we are to a registry: from variables, else from the files where other tools
//! keep it. Never from the command line, which every user of the machine can see, and never shown.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use baker_ship::target::Credentials;
use serde::Deserialize;

use crate::exit::{Exit, Failure};

/// Name of the user of a registry.
const USER: &str = "BAKER_REGISTRY_USER";
/// Their password.
const PASSWORD: &str = "BAKER_REGISTRY_PASSWORD";

/// Where to look: the environment, and the home folder.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// Gives the value of a variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The home folder.
    pub home: &'a Path,
}

/// The file of container tools, as far as it matters here.
#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
}

impl Lookup<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// The credentials for the registry `host`: those of the two variables, else of the file in
    /// REGISTRY_AUTH_FILE, else of the one that container tools write.
    pub fn registry(&self, host: &str) -> Result<Option<Credentials>, Failure> {
        if let (Some(user), Some(password)) = (self.variable(USER), self.variable(PASSWORD)) {
            return Ok(Some(Credentials::new(user, password)));
        }
        let named = self.variable("REGISTRY_AUTH_FILE").map(PathBuf::from);
        let folder = self.variable("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.unwrap_or_else(|| self.home.join(".docker"));
        let path = named.unwrap_or_else(|| folder.join("config.json"));
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let file: AuthFile = serde_json::from_str(&text).map_err(|error| unusable(&path, error))?;
        let auth = file.auths.get(host).and_then(|auth| auth.auth.as_deref());
        let Some(auth) = auth else {
            return Ok(None);
        };
        // The error must not quote what could not be decoded.
        Credentials::of_basic(auth).map(Some).ok_or_else(|| {
            unusable(
                &path,
                io::Error::other("an `auth` is not base64 of user:password"),
            )
        })
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, error)),
    }
}

fn unusable(path: &Path, error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Usage, error)
        .context(format!("cannot use the credentials in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_before_files() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".docker")).unwrap();
        let file = home.path().join(".docker/config.json");
        // me:file
        fs::write(
            &file,
            r#"{"auths":{"h:1":{"auth":"bWU6ZmlsZQ=="}},"credsStore":"x"}"#,
        )
        .unwrap();
        let none = |_: &str| None;
        let lookup = |variable| Lookup {
            variable,
            home: home.path(),
        };
        assert!(lookup(&none).registry("other").unwrap().is_none());
        assert_eq!(lookup(&none).registry("h:1").unwrap().unwrap().user(), "me");
        let both = |name: &str| {
            name.starts_with("BAKER_REGISTRY_")
                .then(|| "you".to_owned())
        };
        assert_eq!(
            lookup(&both).registry("h:1").unwrap().unwrap().user(),
            "you"
        );
        fs::write(&file, r#"{"auths":{"h:1":{"auth":"secret!"}}}"#).unwrap();
        let failure = lookup(&none).registry("h:1").unwrap_err();
        assert!(!failure.causes().concat().contains("secret"), "{failure:?}");
    }
}
