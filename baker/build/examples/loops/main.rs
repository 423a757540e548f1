//! `loops assemble|image|describe [inputs]`: one of the loops that a bake spends baker's own time in,
//! run once on made-up input that is the same every time.
//!
//! For `valgrind --tool=callgrind`: with `inputs` all is done but the loop itself, so the difference
//! of the two counts is the loop on all its threads. `tests/integration/instructions.rs` holds it
//! against `tests/instructions.toml`.

mod input;

use std::io::{Cursor, Write as _};
use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use baker_build::assemble::{self, Clashes, Limits};
use baker_build::{Assembled, PackageText, Spool, dpkg_database, inventory, sbom};
use baker_formats::erofs::{self, Compression};
use baker_model::{Interrupt, Lock, Recipe, Silent, Tree};

use input::Memory;

/// Threads take turns in valgrind, and one alone takes the same turns every time.
const THREADS: NonZeroUsize = NonZeroUsize::MIN;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, inputs_only) = match arguments[..] {
        [name] => (name, false),
        [name, "inputs"] => (name, true),
        _ => bail!("usage: loops assemble|image|describe [inputs]"),
    };
    let spool = Spool::new(&std::env::temp_dir())?;
    let size = match name {
        "assemble" => {
            let (lock, packages) = input::packages();
            match inputs_only {
                true => 0,
                false => assembled(&lock, &packages, &spool)?.0.tree.len(),
            }
        }
        "image" => {
            let (tree, contents) = input::tree();
            match inputs_only {
                true => 0,
                false => image(&tree, &contents)?.len(),
            }
        }
        "describe" => {
            let (recipe, (lock, packages)) = (input::recipe(), input::packages());
            let (assembled, texts) = assembled(&lock, &packages, &spool)?;
            match inputs_only {
                true => 0,
                false => described(&recipe, &lock, &assembled, &texts, &spool)?,
            }
        }
        _ => bail!("`{name}` is no loop"),
    };
    // Whoever changes a loop sees at once whether it still does the same work.
    writeln!(std::io::stdout(), "{name}: {size}")?;
    Ok(())
}

/// Packages into a tree with its package database.
fn assembled(
    lock: &Lock,
    packages: &Memory,
    spool: &Spool,
) -> Result<(Assembled, Vec<PackageText>)> {
    let mut assembled = assemble::assemble(assemble::Request {
        lock,
        inputs: packages,
        keep: None,
        spool,
        threads: THREADS,
        limits: Limits::default(),
        clashes: Clashes::Refused,
        listener: &Silent,
        interrupt: &Interrupt::new(),
    })?;
    dpkg_database::record(&mut assembled, spool, lock.epoch)?;
    let texts = inventory::texts(&assembled, spool)?;
    Ok((assembled, texts))
}

/// A tree into an EROFS image.
fn image(tree: &Tree, contents: &Memory) -> Result<Vec<u8>> {
    let options = erofs::Options {
        // The quickest codec: what happens inside of it is not counted.
        compression: Compression::Lz4hc { level: 1 },
        threads: THREADS,
        ..erofs::Options::default()
    };
    let mut out = Cursor::new(Vec::new());
    erofs::write(
        &erofs::Request {
            tree,
            contents,
            parcels: None,
            first: &[],
            options: &options,
            interrupt: &Interrupt::new(),
            progress: &|_| {},
        },
        &mut out,
    )?;
    Ok(out.into_inner())
}

/// A tree into bills of materials; gives their size.
fn described(
    recipe: &Recipe,
    lock: &Lock,
    assembled: &Assembled,
    texts: &[PackageText],
    spool: &Spool,
) -> Result<usize> {
    let items = inventory::files(inventory::Request {
        tree: &assembled.tree,
        contents: spool,
        recipe,
        threads: THREADS,
        interrupt: &Interrupt::new(),
    })?;
    let documents = sbom::sbom(sbom::Request {
        recipe,
        lock,
        inventory: &inventory::inventory(items, texts),
        os_release: b"ID=debian\nVERSION_ID=\"13\"\n",
        baker_version: "1",
    });
    Ok(documents.spdx.len() + documents.cyclonedx.len())
}
