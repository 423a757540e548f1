//! Secure Boot signatures of a release, taken over by whoever bakes it again without its key.
//!
//! A signature is over the digest of a program, so it holds for every program with that digest:
//! whoever has the same program has the same signed program. Each is checked against the digest
//! before it is taken.

use std::fs;
use std::path::Path;

use baker_formats::pe::authenticode;
use baker_model::manifest::FileRole;

use super::Artefact;
use super::secure_boot::esp_programs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// The signed programs of a release.
#[derive(Debug)]
pub struct Adopted {
    programs: Vec<Vec<u8>>,
}

impl Adopted {
    /// Reads the programs on the ESP of a release, and its UKI for netboot.
    pub fn of(release: &Path) -> Result<Self, Failure> {
        let artefact = Artefact::read(release)?;
        let unusable = |error: anyhow::Error| {
            Failure::new(Exit::Verify, error)
                .context(format!("cannot take signatures from {}", release.display()))
        };
        let manifest = artefact.manifest.as_ref();
        let disk = manifest
            .and_then(|manifest| manifest.file(FileRole::Disk))
            .ok_or_else(|| unusable(anyhow::anyhow!("it has no disk")))?;
        let programs = esp_programs(&release.join(&disk.name)).map_err(unusable)?;
        let netboot = manifest.and_then(|manifest| manifest.file(FileRole::NetbootUki));
        let netboot = netboot.map(|file| fs::read(release.join(&file.name)));
        let netboot = netboot
            .transpose()
            .map_err(|error| unusable(error.into()))?;
        let signed = programs.into_values().chain(netboot).filter(|program| {
            authenticode::signatures(program).is_ok_and(|signatures| !signatures.is_empty())
        });
        Ok(Self {
            programs: signed.collect(),
        })
    }

    /// `program` with the signatures of the equal one. When none is equal, those of the one that
    /// is most alike in size are taken all the same, so that what follows on the disk keeps its
    /// place and can be compared; it is said that they do not hold.
    pub fn attach(&self, what: &str, program: Vec<u8>, context: &Context) -> Vec<u8> {
        let mut alike: Option<(usize, Vec<u8>)> = None;
        for signed in &self.programs {
            match authenticode::adopt(&program, signed) {
                Ok((adopted, true)) => return adopted,
                Ok((adopted, false)) => {
                    let distance = adopted.len().abs_diff(signed.len());
                    if alike.as_ref().is_none_or(|(least, _)| distance < *least) {
                        alike = Some((distance, adopted));
                    }
                }
                Err(_) => {}
            }
        }
        let Some((_, adopted)) = alike else {
            return program;
        };
        context.printer().warn(&format!(
            "no signature of the release is for {what} as it is now: the programs differ"
        ));
        adopted
    }
}
