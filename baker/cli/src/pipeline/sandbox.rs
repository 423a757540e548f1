//! Which sandbox there is on this machine.

use std::fs;
use std::path::Path;

use baker_build::{Spool, initrd, kernel, modules};
use baker_model::recipe::Recipe;
use baker_sandbox::{INITRD_MODULES, Namespaces, Runner, SandboxError, ThrowawayMachine};

use super::Host;
use crate::config::SandboxChoice;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::guest::NATIVE;
use crate::program::SANDBOX;

/// What mends a host without namespaces.
const MEND: &str = "install uidmap and give the user a range of ids (usermod --add-subuids \
     100000-165535 --add-subgids 100000-165535 USER), or use --sandbox machine";

/// What a sandbox is made for.
pub(super) struct Needs<'a> {
    /// The recipe.
    pub(super) recipe: &'a Recipe,
    /// Its kernel, for a machine.
    pub(super) kernel: &'a kernel::KernelParts,
    /// Where the kernel's modules are.
    pub(super) spool: &'a Spool,
    /// Folder for the machine's files.
    pub(super) work: &'a Path,
    /// What its clock shows.
    pub(super) epoch: i64,
    /// Configuration and talk.
    pub(super) context: &'a Context,
}

/// The sandbox that was asked for, or the best that there is.
pub(super) fn choose(needs: &Needs<'_>) -> Result<Box<dyn Runner>, Failure> {
    let foreign = needs.recipe.architecture != NATIVE;
    match needs.context.sandbox() {
        SandboxChoice::Machine => machine(needs),
        SandboxChoice::Namespaces => match Namespaces::find(SANDBOX) {
            Ok(found) => Ok(Box::new(found)),
            Err(error) => Err(Failure::new(Exit::Environment, error).help(MEND)),
        },
        SandboxChoice::Auto if foreign => machine(needs),
        SandboxChoice::Auto => match Namespaces::find(SANDBOX) {
            Ok(found) => Ok(Box::new(found)),
            Err(error) => {
                let text = format!("{error}; scripts run in a throwaway machine, which is slower");
                needs.context.printer().warn(&text);
                machine(needs)
            }
        },
    }
}

fn machine(needs: &Needs<'_>) -> Result<Box<dyn Runner>, Failure> {
    let architecture = needs.recipe.architecture;
    if architecture != NATIVE {
        let problem = format!(
            "this baker has no sandbox for {} machines: it carries the program for {} only",
            architecture.name(),
            NATIVE.name()
        );
        let help = "bake on a machine of that kind, or write scripts = \"builtin\"";
        return Err(Failure::message(Exit::Environment, problem).help(help));
    }
    let failed = |error: std::io::Error| needs.context.failure(Exit::Build, error);
    let host = Host::find([], architecture)?;
    let (kernel, initrd) = (
        needs.work.join("sandbox.kernel"),
        needs.work.join("sandbox.initrd"),
    );
    fs::write(&kernel, &needs.kernel.image).map_err(failed)?;
    fs::write(&initrd, packed(needs)?).map_err(failed)?;
    Ok(Box::new(ThrowawayMachine {
        cpu: host
            .qemu
            .choose_cpu(host.accelerator.accelerator, &host.environment),
        accelerator: host.accelerator.accelerator,
        qemu: host.qemu,
        kernel,
        initrd,
        work: needs.work.to_owned(),
        epoch: needs.epoch,
    }))
}

/// The initramfs: the first process, and the drivers of its disk and its port.
fn packed(needs: &Needs<'_>) -> Result<Vec<u8>, Failure> {
    let failed = |error: anyhow::Error| needs.context.failure(Exit::Build, error);
    let request = modules::InitrdRequest {
        kernel: &needs.kernel.modules,
        contents: needs.spool,
        names: &[],
        optional: &INITRD_MODULES,
        root_format: needs.recipe.root.format,
    };
    let modules = modules::initrd_modules(request).map_err(|error| failed(error.into()))?;
    let modules: Vec<initrd::Module> = modules
        .into_iter()
        .map(|module| initrd::Module {
            path: module.path,
            bytes: module.bytes,
            is_driver: module.is_driver,
            hardware: module.hardware,
        })
        .collect();
    let request = initrd::Request {
        guest: SANDBOX,
        modules: &modules,
        root_format: needs.recipe.root.format,
        epoch: needs.epoch,
        packing: initrd::Packing::Plain,
        budget: None,
    };
    let initrd = initrd::initrd(&request).map_err(|error| failed(error.into()))?;
    Ok(initrd.bytes)
}

/// What a sandbox that does not work means for the person.
pub(super) fn failure(context: &Context, error: SandboxError) -> Failure {
    match error {
        SandboxError::NoNamespaces { .. } => Failure::new(Exit::Environment, error).help(MEND),
        SandboxError::Memory { .. } => {
            let help =
                "free memory, or bake where namespaces run the scripts: they need no machine";
            Failure::new(Exit::Environment, error).help(help)
        }
        error => context.failure(Exit::Build, error),
    }
}
