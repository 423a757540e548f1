//! Where things are on this machine: flags, then environment, then the config file, then defaults.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use baker_fetch::Expiry;
use baker_ship::cache::CachePlace;
use baker_ship::target::PlaceError;
use serde::Deserialize;

use crate::exit::{Exit, Failure};

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Folder of inputs and stage results [default: ~/.cache/baker]
    #[arg(long, global = true, env = "BAKER_STORE", value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// Archive to fetch from, as URL or name=URL; may be repeated [default: the
    /// host's own apt sources]
    #[arg(
        long,
        global = true,
        env = "BAKER_MIRROR",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub mirror: Vec<String>,
    /// OpenPGP keyring that archives must be signed by; may be repeated
    /// [default: the host's Debian archive keyring]
    #[arg(
        long,
        global = true,
        env = "BAKER_KEYRING",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub keyring: Vec<PathBuf>,
    /// Take archives whose Valid-Until has passed, with a warning: for mirrors
    /// that are frozen on purpose
    #[arg(long, global = true, env = "BAKER_ALLOW_EXPIRED")]
    pub allow_expired: bool,
    /// Private key of the Secure Boot certificate db.crt, for keys that are no file
    /// of the Secure Boot folder: FILE, pkcs11:URI or command:PROGRAM [default:
    /// db.key in that folder]
    #[arg(
        long,
        global = true,
        env = "BAKER_SECURE_BOOT_KEY",
        value_name = "KEY",
        hide_short_help = true
    )]
    pub secure_boot_key: Option<String>,
    /// Where packages' scripts and the recipe's commands run, when it has any:
    /// never changes a byte of the result [default: namespaces where the host
    /// gives them, else a throwaway machine]
    #[arg(
        long,
        global = true,
        env = "BAKER_SANDBOX",
        value_name = "WHERE",
        default_value = "auto",
        hide_short_help = true,
        hide_default_value = true
    )]
    pub sandbox: SandboxChoice,
    /// Cache that machines share: a folder, http(s)://HOST/PATH, oci://HOST/PATH or
    /// s3://BUCKET/PREFIX; `fetch` and `release` bring from it what others have
    /// made of the same inputs. An empty one is none
    #[arg(
        long,
        global = true,
        env = "BAKER_CACHE",
        value_name = "PLACE",
        hide_short_help = true
    )]
    pub cache: Option<String>,
    /// Public key that must have signed what is brought from the cache, or a folder
    /// of such keys; may be repeated
    #[arg(
        long,
        global = true,
        env = "BAKER_CACHE_TRUST",
        value_name = "FILE",
        value_delimiter = ',',
        hide_short_help = true
    )]
    pub cache_trust: Vec<PathBuf>,
    /// Private key that signs what is shared in the cache: FILE, pkcs11:URI or
    /// command:PROGRAM
    #[arg(
        long,
        global = true,
        env = "BAKER_CACHE_KEY",
        value_name = "KEY",
        hide_short_help = true
    )]
    pub cache_key: Option<String>,
    /// Config file [default: ~/.config/baker/config.toml]
    #[arg(long, global = true, env = "BAKER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Answer in JSON: one object per event and line
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but errors and the answer
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Where scripts run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SandboxChoice {
    /// Namespaces where the host gives them, else a machine
    #[default]
    Auto,
    /// Namespaces of the host's kernel
    Namespaces,
    /// A throwaway QEMU machine
    Machine,
}

impl SandboxChoice {
    /// The word behind `--sandbox`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Namespaces => "namespaces",
            Self::Machine => "machine",
        }
    }
}

/// The config file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    store: Option<PathBuf>,
    mirrors: Vec<String>,
    keyrings: Vec<PathBuf>,
    key: Option<String>,
    secure_boot: Option<PathBuf>,
    secure_boot_key: Option<String>,
    trust: Vec<PathBuf>,
    targets: Targets,
    cache: CacheFile,
}

/// `[cache]`: where machines share what they have made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct CacheFile {
    place: Option<String>,
    trust: Vec<PathBuf>,
    key: Option<String>,
}

/// Where machines share what they have made.
#[derive(Debug, Clone, Default)]
pub struct CacheConfig {
    /// The cache; none to do without.
    pub place: Option<CachePlace>,
    /// Public keys that must have signed what is brought, or folders of such keys.
    pub trust: Vec<PathBuf>,
    /// The key that signs what is shared, as it stands behind `--key`; none to share nothing.
    pub key: Option<String>,
}

/// `[targets]`: where registries and buckets are, when their names do not say it. Who we are there
/// stands elsewhere: see [`crate::credentials`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Targets {
    /// PEM file of certificates to believe beside the host's own.
    pub authority: Option<PathBuf>,
    /// Address of the store of buckets.
    pub s3_endpoint: Option<String>,
    /// Its region.
    pub s3_region: Option<String>,
    /// Fingerprint of the OpenPGP key that signs lists of updates.
    pub gpg_key: Option<String>,
}

/// Everything settled.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the store.
    pub store: PathBuf,
    /// Mirrors as given (`URL` or `name=URL`); empty: the host's apt sources.
    pub mirrors: Vec<String>,
    /// Keyrings as given; empty: the host's.
    pub keyrings: Vec<PathBuf>,
    /// What becomes of archives whose time has passed.
    pub expiry: Expiry,
    /// Signing key, as it stands behind `--key`.
    pub key: Option<String>,
    /// Folder of Secure Boot keys.
    pub secure_boot: Option<PathBuf>,
    /// The private key of the certificate `db.crt` in it, as it stands behind `--key`; `db.key` in
    /// the folder when not given.
    pub secure_boot_key: Option<String>,
    /// Public keys that releases may be signed by, or folders of such keys.
    pub trust: Vec<PathBuf>,
    /// Where registries and buckets are.
    pub targets: Targets,
    /// Where scripts run.
    pub sandbox: SandboxChoice,
    /// Where machines share what they have made.
    pub cache: CacheConfig,
}

impl Config {
    /// Settles what flags, environment and config file say.
    pub fn settle(global: &Global) -> Result<Self, Failure> {
        let file = read_file(global)?;
        let or = |flags: &[PathBuf], file: Vec<PathBuf>| match flags {
            [] => file,
            flags => flags.to_vec(),
        };
        Ok(Self {
            store: global
                .store
                .clone()
                .or(file.store)
                .unwrap_or_else(default_store),
            mirrors: if global.mirror.is_empty() {
                file.mirrors
            } else {
                global.mirror.clone()
            },
            keyrings: or(&global.keyring, file.keyrings),
            expiry: match global.allow_expired {
                true => Expiry::Ignore,
                false => Expiry::Enforce,
            },
            key: file.key,
            secure_boot: file.secure_boot,
            secure_boot_key: global.secure_boot_key.clone().or(file.secure_boot_key),
            trust: file.trust,
            targets: file.targets,
            sandbox: global.sandbox,
            cache: CacheConfig {
                place: cache_place(global.cache.clone().or(file.cache.place))?,
                trust: or(&global.cache_trust, file.cache.trust),
                key: global.cache_key.clone().or(file.cache.key),
            },
        })
    }
}

/// The place that a text names; none for none, and for an empty one.
fn cache_place(text: Option<String>) -> Result<Option<CachePlace>, Failure> {
    let place = text
        .filter(|text| !text.is_empty())
        .map(|text| text.parse());
    place.transpose().map_err(|error: PlaceError| {
        Failure::new(Exit::Usage, error).context("cannot use the cache")
    })
}

fn read_file(global: &Global) -> Result<File, Failure> {
    let path = match &global.config {
        Some(path) => path.clone(),
        None => home_folder("XDG_CONFIG_HOME", ".config").join("baker/config.toml"),
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && global.config.is_none() => {
            return Ok(File::default());
        }
        // Without a home it is root's that is looked into, which others may not.
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && global.config.is_none()
                && env::var_os("HOME").is_none() =>
        {
            return Ok(File::default());
        }
        Err(error) => {
            return Err(Failure::new(Exit::Usage, error)
                .context(format!("cannot read the config file {}", path.display())));
        }
    };
    toml::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .context(format!("cannot use the config file {}", path.display()))
    })
}

fn default_store() -> PathBuf {
    home_folder("XDG_CACHE_HOME", ".cache").join("baker")
}

/// The folder that an XDG variable names, else the usual one in the home folder.
fn home_folder(variable: &str, usual: &str) -> PathBuf {
    let named = env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    named.unwrap_or_else(|| {
        let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        Path::new(&home).join(usual)
    })
}
