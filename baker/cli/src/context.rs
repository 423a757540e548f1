//! What every command works with: configuration, the printer, progress, and the wish to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use baker_fetch::{FetchError, FetchOptions, Fetched, LockError, Sources, Store};
use baker_model::{Interrupt, Listener, Lock};
use baker_ship::key_source::{MODULE_VARIABLE, PASSPHRASE_VARIABLE, PIN_VARIABLE};
use baker_ship::{KeySource, KeySourceError, Passphrase, Secrets, Signer, Trust};
use serde::Serialize;

use crate::commands::key::key_failure;
use crate::config::{CacheConfig, Color, Config, Global, SandboxChoice, Targets};
use crate::exit::{Exit, Failure};
use crate::pipeline::BootKeys;
use crate::pipeline::openpgp::Fingerprint;
use crate::source::RecipeFolder;
use crate::ui::{Answer, Colour, Printer, Progress, Settings, Talk};

/// How to get Secure Boot keys.
pub const MAKE_BOOT_KEYS: &str = "name their folder with --secure-boot FOLDER, or make one: baker \
    key secure-boot out/secure-boot --development";

/// Shared by all of one command.
pub struct Context {
    config: Config,
    printer: Arc<Printer>,
    progress: Progress,
    interrupt: Arc<Interrupt>,
}

impl Context {
    /// Settles how to talk.
    pub fn new(config: Config, global: &Global, interrupt: Arc<Interrupt>) -> Self {
        let settings = Settings {
            answer: if global.json {
                Answer::Json
            } else {
                Answer::Text
            },
            talk: if global.quiet {
                Talk::Quiet
            } else {
                Talk::Normal
            },
            colour: match global.color {
                Color::Auto => Colour::Auto,
                Color::Always => Colour::Always,
                Color::Never => Colour::Never,
            },
        };
        let printer = Arc::new(Printer::of_process(settings));
        let progress = Progress::new(Arc::clone(&printer));
        Self {
            config,
            printer,
            progress,
            interrupt,
        }
    }

    /// Takes the events of stages.
    pub fn listener(&self) -> &dyn Listener {
        &self.progress
    }

    /// The wish to stop.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    /// Who writes to the terminal.
    pub fn printer(&self) -> &Printer {
        &self.printer
    }

    /// Warnings of stages so far: stage and text.
    pub fn warnings(&self) -> Vec<(String, String)> {
        self.progress.warnings()
    }

    /// What is known of the way in which things went.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The stage table: what took how long.
    pub fn show_timings(&self) {
        self.progress.finish();
    }

    /// Gives the answer of a command: `text` for people, `value` where JSON is wanted.
    pub fn answer(&self, text: &str, value: &impl Serialize) -> Result<(), Failure> {
        match self.printer.answer() {
            Answer::Text => self.printer.data(text),
            Answer::Json => self.printer.json(value),
        }
    }

    /// Ends the program: reports a failure, gives the exit code.
    pub fn finish(&self, result: Result<(), Failure>) -> ExitCode {
        match result {
            Ok(()) => Exit::Success.into(),
            Err(failure) => {
                self.printer.failure(&failure);
                failure.exit.into()
            }
        }
    }

    /// A failure of a stage. When a person asked to stop, that is the reason, whatever the stage
    /// made of it.
    pub fn failure(&self, exit: Exit, error: impl Into<anyhow::Error>) -> Failure {
        if self.interrupt.is_raised() {
            return Failure::message(
                Exit::Interrupted,
                "interrupted; nothing half-written is left",
            );
        }
        Failure::new(exit, error)
    }

    /// Where packages' scripts run.
    pub fn sandbox(&self) -> SandboxChoice {
        self.config.sandbox
    }

    /// Where registries and buckets are.
    pub fn targets(&self) -> &Targets {
        &self.config.targets
    }

    /// Where machines share what they have made.
    pub fn cache(&self) -> &CacheConfig {
        &self.config.cache
    }

    /// The OpenPGP key that signs lists of updates: the flag's, else the config file's.
    pub fn gpg_key(&self, flag: Option<&Fingerprint>) -> Result<Option<Fingerprint>, Failure> {
        let configured = self.config.targets.gpg_key.as_deref();
        match (flag, configured) {
            (Some(key), _) => Ok(Some(key.clone())),
            (None, Some(text)) => text.parse().map(Some).map_err(|problem: String| {
                Failure::message(Exit::Usage, problem).context("gpg-key of the config file")
            }),
            (None, None) => Ok(None),
        }
    }

    /// The archives to fetch from.
    pub fn sources(&self) -> Result<Sources, Failure> {
        let refused = |error| Failure::new(Exit::Usage, error);
        let mut sources = Sources::from_host(Path::new("/")).map_err(refused)?;
        for mirror in &self.config.mirrors {
            sources = sources.with_mirror(mirror).map_err(refused)?;
        }
        if !self.config.keyrings.is_empty() {
            sources = sources.with_keyrings(self.config.keyrings.clone());
        }
        sources.expiry = self.config.expiry;
        Ok(sources)
    }

    /// The store.
    pub fn store(&self) -> Result<Store, Failure> {
        Store::open(&self.config.store).map_err(|error| {
            self.failure(Exit::Fetch, error)
                .help("name a folder that you can write to with --store")
        })
    }

    /// The fetch stage.
    pub fn fetch_inputs(&self, lock: &Lock, options: FetchOptions) -> Result<Fetched, Failure> {
        let (sources, store) = (self.sources()?, self.store()?);
        baker_fetch::fetch(
            lock,
            &sources,
            &store,
            self.listener(),
            self.interrupt(),
            options,
        )
        .map_err(|error| self.fetch_failure(error))
    }

    fn fetch_failure(&self, error: FetchError) -> Failure {
        let help = match &error {
            FetchError::Gone { .. } => None,
            FetchError::Download(_) => {
                Some("look at the mirror, or name another with --mirror URL")
            }
            FetchError::Store(_) => Some("make room, or name another store with --store FOLDER"),
        };
        let failure = self.failure(Exit::Fetch, error);
        match help {
            Some(help) if failure.exit == Exit::Fetch => failure.help(help),
            _ => failure,
        }
    }

    /// A failure of the resolve stage.
    pub fn lock_failure(&self, error: LockError) -> Failure {
        self.failure(Exit::Fetch, error)
    }

    /// The signing key: the flag's, else the config file's.
    pub fn key(&self, flag: Option<&str>) -> Result<Box<dyn Signer>, Failure> {
        let source = flag.or(self.config.key.as_deref()).ok_or_else(|| {
            Failure::message(Exit::Usage, "no key is named to sign with").help(
                "name one with --key KEY, or make one: baker key new out/development.key --development",
            )
        })?;
        open_key(source)
    }

    /// The Secure Boot keys: those of the flag's folder, else of the config file's. None when the
    /// recipe does not ask for them, or nobody names a folder.
    pub fn boot_keys(
        &self,
        folder: &RecipeFolder,
        flag: Option<&Path>,
    ) -> Result<Option<BootKeys>, Failure> {
        if !folder.recipe.boot.secure_boot {
            return Ok(None);
        }
        let path = flag.or(self.config.secure_boot.as_deref());
        let key = self.config.secure_boot_key.as_deref();
        path.map(|path| BootKeys::load(path, key)).transpose()
    }

    /// Whom to trust: what the flags name, else what the config file names.
    pub fn trust(&self, flags: &[PathBuf]) -> Result<Trust, Failure> {
        let paths = if flags.is_empty() {
            &self.config.trust
        } else {
            flags
        };
        Trust::load_all(paths).map_err(|error| {
            Failure::new(Exit::Usage, error)
                .help("name the publisher's .pub file, or a folder of such files, with --trust")
        })
    }
}

/// Opens a key by what a person wrote; what opens it comes from the environment.
pub fn open_key(source: &str) -> Result<Box<dyn Signer>, Failure> {
    let secret = |variable| match std::env::var(variable) {
        Ok(text) => Passphrase::new(text).map(Some).map_err(key_failure),
        Err(_) => Ok(None),
    };
    let secrets = Secrets {
        passphrase: secret(PASSPHRASE_VARIABLE)?,
        pin: secret(PIN_VARIABLE)?,
        module: std::env::var_os(MODULE_VARIABLE).map(PathBuf::from),
    };
    KeySource::parse(source)
        .and_then(|source| source.open(&secrets))
        .map_err(key_source_failure)
}

/// A key that cannot be opened, with its own mend.
pub fn key_source_failure(error: KeySourceError) -> Failure {
    let help = error.help();
    let exit = match error {
        KeySourceError::Uri(_) | KeySourceError::Command { .. } => Exit::Usage,
        _ => Exit::Publish,
    };
    Failure::new(exit, error).help_if(help)
}
