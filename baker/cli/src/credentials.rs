//! Who we are to a registry or a bucket: from variables, else from the files where other tools
//! keep it. Never from the command line, which every user of the machine can see, and never shown.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use baker_ship::cache::Authorization;
use baker_ship::target::{BucketAccess, Credentials, Secret};
use serde::Deserialize;

use crate::exit::{Exit, Failure};

/// Name of the user of a registry.
const USER: &str = "BAKER_REGISTRY_USER";
/// Their password.
const PASSWORD: &str = "BAKER_REGISTRY_PASSWORD";

/// Token for a cache.
const CACHE_TOKEN: &str = "BAKER_CACHE_TOKEN";
/// Name of the user of a cache.
const CACHE_USER: &str = "BAKER_CACHE_USER";
/// Their password.
const CACHE_PASSWORD: &str = "BAKER_CACHE_PASSWORD";

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
        self.of_file(host)
    }

    /// Who we are to the cache at `host`, a server of HTTP: the token of the variable, else user and
    /// password of the variables. When what is sent is kept secret on the way, also what the file of
    /// container tools has for it.
    pub fn cache(&self, host: &str, is_secret: bool) -> Result<Option<Authorization>, Failure> {
        if let Some(token) = self.variable(CACHE_TOKEN) {
            return Ok(Some(Authorization::Bearer(Secret::new(token))));
        }
        let pair = (self.variable(CACHE_USER), self.variable(CACHE_PASSWORD));
        if let (Some(user), Some(password)) = pair {
            let credentials = Credentials::new(user, password);
            return Ok(Some(Authorization::Basic(credentials)));
        }
        match is_secret {
            true => Ok(self.of_file(host)?.map(Authorization::Basic)),
            false => Ok(None),
        }
    }

    /// What the file of container tools has for a host.
    fn of_file(&self, host: &str) -> Result<Option<Credentials>, Failure> {
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

    /// The way into buckets: the variables and the file that the tools of S3 use.
    pub fn bucket(
        &self,
        endpoint: Option<String>,
        region: Option<String>,
    ) -> Result<BucketAccess, Failure> {
        let first = |names: &[&str]| names.iter().find_map(|name| self.variable(name));
        let mut access = BucketAccess {
            endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]).or(endpoint),
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or(region),
            key_id: self.variable("AWS_ACCESS_KEY_ID"),
            secret: self.variable("AWS_SECRET_ACCESS_KEY").map(Secret::new),
            token: self.variable("AWS_SESSION_TOKEN").map(Secret::new),
        };
        if access.key_id.is_some() {
            return Ok(access);
        }
        let path = self
            .variable("AWS_SHARED_CREDENTIALS_FILE")
            .map(PathBuf::from);
        let path = path.unwrap_or_else(|| self.home.join(".aws/credentials"));
        if let Some(text) = read(&path)? {
            let profile = self.variable("AWS_PROFILE");
            let mut keys = section(&text, profile.as_deref().unwrap_or("default"));
            access.key_id = keys.remove("aws_access_key_id");
            access.secret = keys.remove("aws_secret_access_key").map(Secret::new);
            access.token = keys.remove("aws_session_token").map(Secret::new);
        }
        Ok(access)
    }
}

/// The keys of one section of an INI file.
fn section(text: &str, wanted: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            is_inside = name.trim() == wanted;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            keys.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    keys
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
        // A cache: the file's only where nobody listens, a token before all.
        let cache = |variable, is_secret| lookup(variable).cache("h:1", is_secret).unwrap();
        assert!(cache(&none, false).is_none());
        assert!(matches!(cache(&none, true), Some(Authorization::Basic(it)) if it.user() == "me"));
        assert!(cache(&both, false).is_none(), "those are for registries");
        let pair = |name: &str| (name != CACHE_TOKEN).then(|| "they".to_owned());
        let found = cache(&pair, false);
        assert!(matches!(found, Some(Authorization::Basic(it)) if it.user() == "they"));
        let all = |_: &str| Some("all".to_owned());
        let found = cache(&all, false);
        assert!(matches!(&found, Some(Authorization::Bearer(_))));
        assert!(!format!("{found:?}").contains("all"), "{found:?}");
        fs::write(&file, r#"{"auths":{"h:1":{"auth":"secret!"}}}"#).unwrap();
        let failure = lookup(&none).registry("h:1").unwrap_err();
        assert!(!failure.causes().concat().contains("secret"), "{failure:?}");
    }

    #[test]
    fn a_profile_is_found_in_the_file_of_buckets() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".aws")).unwrap();
        let text = "[default]\naws_access_key_id = a\n\n[ci]\naws_access_key_id=b\n\
            aws_secret_access_key = s = t\n";
        fs::write(home.path().join(".aws/credentials"), text).unwrap();
        let ci = |name: &str| (name == "AWS_PROFILE").then(|| "ci".to_owned());
        let lookup = Lookup {
            variable: &ci,
            home: home.path(),
        };
        let access = lookup.bucket(Some("http://x".to_owned()), None).unwrap();
        assert_eq!(access.key_id.as_deref(), Some("b"));
        assert_eq!(access.endpoint.as_deref(), Some("http://x"));
        assert!(access.secret.is_some() && access.token.is_none());
        assert_eq!(section(text, "ci")["aws_secret_access_key"], "s = t");
    }
}
