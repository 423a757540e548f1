//! Between commands and targets: opens a target by what people call it, and finds the release that
//! is meant. Credentials come from the environment and from files that the environment names.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use baker_ship::cache::{BucketShelf, CachePlace, FolderShelf, HttpShelf, RegistryShelf, Shelf};
use baker_ship::channel::{ChannelError, history};
use baker_ship::said::SayError;
use baker_ship::target::{
    BucketTarget, Place, Reference, RegistryTarget, ReleaseId, Target, Which,
};
use baker_ship::{FolderTarget, SigningError, Source, TargetError, Trust, Verified};

use super::check_boot_signatures;
use crate::context::Context;
use crate::credentials::Lookup;
use crate::exit::{Exit, Failure};

/// The value of a variable of the environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Lets `work` look for credentials in the environment and the home folder.
fn looking<T>(work: impl FnOnce(Lookup<'_>) -> T) -> T {
    let home = variable("HOME").unwrap_or_else(|| "/root".to_owned());
    work(Lookup {
        variable: &variable,
        home: Path::new(&home),
    })
}

/// Opens a target. Nothing is sent before something is asked of it.
pub fn open_target(place: &Place, context: &Context) -> Result<Box<dyn Target>, Failure> {
    looking(|lookup| target(place, lookup, context))
}

/// Opens a cache. Nothing is sent before something is asked of it.
pub fn open_shelf(place: &CachePlace, context: &Context) -> Result<Box<dyn Shelf>, Failure> {
    looking(|lookup| shelf(place, lookup, context))
}

fn shelf(
    place: &CachePlace,
    lookup: Lookup<'_>,
    context: &Context,
) -> Result<Box<dyn Shelf>, Failure> {
    let settings = context.targets();
    let (authority, interrupt) = (settings.authority.as_deref(), context.interrupt());
    // Before anything is sent, all that can be wrong is what a person has said.
    let failed = |error: TargetError| {
        let help = error.help();
        Failure::new(Exit::Usage, error)
            .context(format!("cannot use the cache {place}"))
            .help_if(help)
    };
    match place {
        CachePlace::Http(base) => {
            let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
            let host = rest.split('/').next().unwrap_or_default();
            let authorization = lookup.cache(host, scheme == "https")?;
            let shelf = HttpShelf::new(base, authorization.as_ref(), authority, interrupt);
            Ok(Box::new(shelf.map_err(failed)?))
        }
        CachePlace::Other(Place::Folder(path)) => Ok(Box::new(FolderShelf::new(path.clone()))),
        CachePlace::Other(Place::Registry { host, path }) => {
            let credentials = lookup.registry(host)?;
            let shelf = RegistryShelf::new(host, path, credentials, authority, interrupt);
            Ok(Box::new(shelf.map_err(failed)?))
        }
        CachePlace::Other(Place::Bucket { bucket, prefix }) => {
            let (endpoint, region) = (settings.s3_endpoint.clone(), settings.s3_region.clone());
            let access = lookup.bucket(endpoint, region)?;
            let shelf = BucketShelf::new(bucket, prefix, &access, authority, interrupt);
            Ok(Box::new(shelf.map_err(failed)?))
        }
    }
}

fn target(
    place: &Place,
    lookup: Lookup<'_>,
    context: &Context,
) -> Result<Box<dyn Target>, Failure> {
    let settings = context.targets();
    let authority = settings.authority.as_deref();
    let failed = |error| target_failure(error, context);
    match place {
        Place::Folder(path) => Ok(Box::new(FolderTarget::new(path.clone(), Source::Kept))),
        Place::Registry { host, path } => {
            let credentials = lookup.registry(host)?;
            let target = RegistryTarget::new(host, path, credentials, authority);
            Ok(Box::new(target.map_err(failed)?))
        }
        Place::Bucket { bucket, prefix } => {
            let (endpoint, region) = (settings.s3_endpoint.clone(), settings.s3_region.clone());
            let access = lookup.bucket(endpoint, region)?;
            let target = BucketTarget::new(bucket, prefix, &access, authority);
            Ok(Box::new(target.map_err(failed)?))
        }
    }
}

/// Verifies a release folder as `baker verify` does.
pub fn verified(folder: &Path, trust: &Trust, context: &Context) -> Result<Verified, Failure> {
    let mut report = baker_ship::verify(folder, trust, context.listener(), context.interrupt())
        .map_err(|error| context.failure(Exit::Verify, error))?;
    check_boot_signatures(folder, &mut report);
    for warning in &report.warnings {
        context.printer().warn(&warning.to_string());
    }
    Verified::new(folder, &report).map_err(|error| {
        context.failure(Exit::Verify, error).help(format!(
            "see all problems with: baker verify {}",
            folder.display()
        ))
    })
}

/// The release that a reference means; a channel means where it points now.
pub fn settle(
    reference: &Reference,
    target: &dyn Target,
    trust: &Trust,
    context: &Context,
) -> Result<ReleaseId, Failure> {
    let id = match &reference.which {
        Which::Version(id) => return Ok(id.clone()),
        Which::Channel(id) => id,
        Which::Any => {
            let name = &reference.name;
            let problem = format!("{name} names no version and no channel");
            let help = format!("write {name}:VERSION or {name}@CHANNEL");
            return Err(Failure::message(Exit::Usage, problem).help(help));
        }
    };
    let history = history(target, id, trust).map_err(|error| channel_failure(error, context))?;
    let version = history
        .current()
        .map(|entry| entry.pointer.version.as_str());
    version
        .and_then(|version| ReleaseId::new(id.name(), version))
        .ok_or_else(|| {
            let problem = format!("there is no channel {id} in {}", target.place());
            Failure::message(Exit::Publish, problem)
        })
}

/// A target's own error, with its own mend.
pub fn target_failure(error: TargetError, context: &Context) -> Failure {
    let help = error.help();
    let exit = match error {
        TargetError::Corrupt { .. } | TargetError::Malformed { .. } => Exit::Verify,
        _ => Exit::Publish,
    };
    context.failure(exit, error).help_if(help)
}

/// A channel that cannot be followed or moved.
pub fn channel_failure(error: ChannelError, context: &Context) -> Failure {
    match error {
        ChannelError::Target(error) => target_failure(error, context),
        ChannelError::Signing(error) => signing_failure(error, context),
        ChannelError::NoChannel { .. } => context.failure(Exit::Publish, error),
        ChannelError::Signature { .. }
        | ChannelError::Syntax { .. }
        | ChannelError::Broken { .. } => context.failure(Exit::Verify, error),
    }
}

/// A statement that cannot be signed or kept.
pub fn say_failure(error: SayError, context: &Context) -> Failure {
    match error {
        SayError::Target(error) => target_failure(error, context),
        SayError::Signing(error) => signing_failure(error, context),
        SayError::NoReason => context.failure(Exit::Usage, error),
        SayError::OtherRelease { .. } => context.failure(Exit::Verify, error),
        SayError::NoRelease { .. } => context.failure(Exit::Publish, error),
    }
}

fn signing_failure(error: SigningError, context: &Context) -> Failure {
    let help = error.help();
    context.failure(Exit::Publish, error).help_if(help)
}

/// Seconds since 1970-01-01 UTC.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
