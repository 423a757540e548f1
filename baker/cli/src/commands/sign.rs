//! `baker sign`

use std::fs;
use std::path::{Path, PathBuf};

use baker_ship::key_source::replies;
use baker_ship::{Draft, Request, SIGNATURES, SignError, Signed, Signer};

use crate::context::{Context, key_source_failure};
use crate::exit::{Exit, Failure};
use crate::pipeline;

/// Signs what lies in a folder: a tested draft, or a release that others have
/// signed already. With keys that are elsewhere, in two steps: --request
/// writes everything that is to be signed into one file, --apply takes the
/// signatures back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a draft or release; or a file of --request, to add the key's
    /// signatures to it
    what: PathBuf,
    /// Private key to sign with: FILE, pkcs11:URI or command:PROGRAM
    #[arg(long, env = "BAKER_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Sign nothing: write what is to be signed, and why, into this file
    #[arg(long, value_name = "FILE", conflicts_with = "apply")]
    request: Option<PathBuf>,
    /// Take the signatures out of a file of --request that came back
    #[arg(long, value_name = "FILE")]
    apply: Option<PathBuf>,
    /// Put the signed draft into this folder of releases
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    if let Some(file) = &args.request {
        return request(&args.what, file, context);
    }
    let signers = match &args.apply {
        None => vec![context.key(args.key.as_deref())?],
        Some(file) => replies(file)
            .map_err(key_source_failure)?
            .into_iter()
            .map(|reply| Box::new(reply) as Box<dyn Signer>)
            .collect(),
    };
    if args.what.is_file() {
        return add(&args.what, &signers, context);
    }
    let signed = sign(&args.what, &signers, context)?;
    let Some(to) = &args.to else {
        let answer = args.what.display().to_string();
        return context.answer(&answer, signed.manifest());
    };
    let manifest = signed.manifest().clone();
    let published = pipeline::publish(signed, to, context)?;
    // The draft's folder has been emptied into the release.
    context.answer(&published.display().to_string(), &manifest)
}

/// Signs with each of the signers in turn.
fn sign(folder: &Path, signers: &[Box<dyn Signer>], context: &Context) -> Result<Signed, Failure> {
    let (listener, interrupt) = (context.listener(), context.interrupt());
    let failed = |error: SignError| pipeline::sign_failure(error, context);
    let mut rest = signers.iter();
    let mut signed = if folder.join(SIGNATURES).exists() {
        Signed::open(folder, listener, interrupt).map_err(failed)?
    } else {
        let first = rest.next().ok_or_else(|| {
            Failure::message(Exit::Usage, "nobody signs").help("name a key with --key KEY")
        })?;
        let draft = Draft::open(folder).map_err(failed)?;
        draft
            .sign(first.as_ref(), listener, interrupt)
            .map_err(failed)?
    };
    for signer in rest {
        signed = signed.countersign(signer.as_ref()).map_err(failed)?;
    }
    Ok(signed)
}

/// Writes everything that is to be signed.
fn request(folder: &Path, file: &Path, context: &Context) -> Result<(), Failure> {
    let draft = Draft::open(folder)
        .and_then(|draft| draft.request(context.listener(), context.interrupt()));
    let request = draft.map_err(|error| pipeline::sign_failure(error, context))?;
    write(file, &request)?;
    let text = format!(
        "{}\n{}\nread it, then have it signed: baker sign {} --key KEY",
        file.display(),
        request.about.join("\n"),
        file.display()
    );
    context.answer(&text, &request)
}

/// Adds signatures to a file of requests.
fn add(file: &Path, signers: &[Box<dyn Signer>], context: &Context) -> Result<(), Failure> {
    let failed = |error: anyhow::Error| {
        Failure::new(Exit::Publish, error).context(format!("cannot sign {}", file.display()))
    };
    let bytes = fs::read(file).map_err(|error| failed(error.into()))?;
    let mut request = Request::parse(&bytes).map_err(|error| failed(error.into()))?;
    let mut count = 0;
    for signer in signers {
        count += request
            .sign(signer.as_ref())
            .map_err(|error| failed(error.into()))?;
    }
    if count == 0 {
        return Err(Failure::message(
            Exit::Publish,
            "the request holds nothing that keys of this kind sign",
        )
        .help("releases are signed with Ed25519 or ECDSA, boot programs with RSA or ECDSA"));
    }
    write(file, &request)?;
    let text = format!("{}: {count} signatures", file.display());
    context.answer(&text, &request)
}

fn write(file: &Path, request: &Request) -> Result<(), Failure> {
    fs::write(file, request.to_bytes()).map_err(|error| {
        Failure::new(Exit::Publish, error).context(format!("cannot write {}", file.display()))
    })
}
