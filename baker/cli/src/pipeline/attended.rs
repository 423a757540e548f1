//! A machine for a person: console attached, ports, credentials and kernel arguments and
//! shared folders as wanted.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use baker_model::manifest::FileRole;
use baker_model::plan::{DiskBus, Firmware, TestPlan};
use baker_vm::{
    Access, Boot, Disk, Display, Extras, Forward, Machine, Medium, MediumFormat, Network, OnReset,
    ProbeOffer, Share, Tpm, Watchdog, Writes,
};

use super::{Booted, Host, host, shares, workdir_failure};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// SMBIOS has room for 64 KiB of everything; credentials may have this much, as Base64.
const CREDENTIAL_LIMIT: usize = 40 << 10;

/// What a person wants of the machine.
#[derive(Debug)]
pub struct Wanted {
    /// How it starts.
    pub firmware: Firmware,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Ports of this host and of the guest.
    pub ports: Vec<Forward>,
    /// Names of credentials and the files with their bytes.
    pub credentials: Vec<(String, PathBuf)>,
    /// Words for the end of the kernel command line.
    pub append: Vec<String>,
    /// Folders of this host.
    pub shares: Vec<Share>,
}

/// Boots for a person, console attached.
pub fn run(folder: &Path, wanted: &Wanted, context: &Context) -> Result<(), Failure> {
    let booted = Booted::read(folder)?;
    let firmware = match (wanted.firmware, &booted.manifest().secure_boot) {
        // What is signed is shown as the machine that knows its keys would boot it.
        (Firmware::Uefi, Some(_)) => Firmware::UefiSecure,
        (other, _) => other,
    };
    let plan = TestPlan {
        firmware,
        memory_mib: wanted.memory_mib,
        ..TestPlan::default()
    };
    let host = Host::find([&plan], host::architecture(booted.manifest())?)?;
    let scratch = tempfile::tempdir().map_err(workdir_failure)?;
    let (disk, _) = booted.file(FileRole::Disk)?;
    if let Err(error) = fs::File::open(&disk) {
        return Err(
            Failure::new(Exit::Verify, error).context(format!("cannot read {}", disk.display()))
        );
    }
    check_ports(&wanted.ports)?;
    shares::check(&booted, &wanted.shares)?;
    for text in missing(&booted, &wanted.credentials) {
        context.printer().warn(&text);
    }
    let mut boot = booted.boot(firmware, &host, scratch.path())?;
    if let Boot::Direct(direct) = &mut boot {
        for word in &wanted.append {
            direct.append.push(' ');
            direct.append.push_str(word);
        }
    }
    let mut served = shares::serve(&wanted.shares, &host.environment, scratch.path())?;
    let mut extras = extras(wanted, scratch.path())?;
    extras.shares = served.iter().map(|share| share.socket.clone()).collect();
    let machine = Machine {
        architecture: host.qemu.architecture,
        boot,
        accelerator: host.accelerator.accelerator,
        board: host.qemu.board(),
        cpu: host.qemu.cpu_model(host.accelerator.accelerator).to_owned(),
        threads: host.qemu.threads(),
        cpus: plan.cpus,
        memory_mib: wanted.memory_mib,
        disk: Some(Disk {
            medium: Medium {
                path: disk,
                format: MediumFormat::Raw,
            },
            writes: Writes::Discarded,
        }),
        bus: DiskBus::default(),
        probe: ProbeOffer::None,
        networks: plan.networks,
        network: Network::Open,
        links: Vec::new(),
        forwards: wanted.ports.clone(),
        on_reset: OnReset::Restart,
        display: Display::None,
        watchdog: Watchdog::None,
        tpm: Tpm::None,
        credentials: Vec::new(),
        extras,
    };
    announce(wanted, &host, context);
    let status = baker_vm::run(&host.qemu, &machine, context.interrupt())
        .map_err(|error| context.failure(Exit::Environment, error))?;
    match (status.success(), shares::failure(&mut served)) {
        (true, _) => Ok(()),
        (false, Some(failure)) => Err(failure),
        (false, None) => Err(Failure::message(
            Exit::Smoke,
            format!("QEMU ended with {status}"),
        )),
    }
}

/// Says what a person needs to know of the machine that starts now.
fn announce(wanted: &Wanted, host: &Host, context: &Context) {
    let printer = context.printer();
    printer.say(&format!(
        "{}; Ctrl-A X ends the machine",
        host.accelerator.reason
    ));
    for Forward { host, guest } in &wanted.ports {
        printer.say(&format!("port {guest} of the guest is 127.0.0.1:{host}"));
    }
    for share in &wanted.shares {
        let can = match share.access {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "which it may write to",
        };
        let folder = share.folder.display();
        printer.say(&format!("{} of the guest is {folder}, {can}", share.guest));
    }
}

/// The required credentials that nobody gives. A machine starts without them, only the units that
/// need them do not: to see that may be what a person wants, so it is no failure.
fn missing(booted: &Booted, given: &[(String, PathBuf)]) -> Vec<String> {
    let Some(recipe) = booted.recipe() else {
        return Vec::new();
    };
    let is_given = |name: &str| given.iter().any(|(given, _)| given == name);
    let missing = recipe.missing_credentials(is_given);
    missing
        .map(|credential| {
            let loss = match &credential.unit {
                Some(unit) => format!("{unit} will not start"),
                None => "the machine lacks it".to_owned(),
            };
            format!(
                "the credential {name} is required and not given ({}): {loss}; \
                 give it by --credential {name}=FILE",
                credential.purpose,
                name = credential.name,
            )
        })
        .collect()
}

/// QEMU's own words for a port in use name neither the port nor a mend.
fn check_ports(ports: &[Forward]) -> Result<(), Failure> {
    for Forward { host, .. } in ports {
        if let Err(error) = TcpListener::bind(("127.0.0.1", *host)) {
            return Err(Failure::new(Exit::Usage, error)
                .context(format!("port {host} of this machine cannot be had"))
                .help("choose another: --port OTHER:PORT"));
        }
    }
    Ok(())
}

fn extras(wanted: &Wanted, scratch: &Path) -> Result<Extras, Failure> {
    let shares = wanted.shares.iter().enumerate();
    let mut credentials: Vec<_> = shares
        .flat_map(|(number, share)| share.credentials(number))
        .collect();
    for (name, path) in &wanted.credentials {
        let bytes = fs::read(path).map_err(|error| {
            Failure::new(Exit::Usage, error).context(format!(
                "cannot read {}, the credential {name}",
                path.display()
            ))
        })?;
        credentials.push((name.clone(), bytes));
    }
    let bytes: usize = credentials.iter().map(|(_, bytes)| bytes.len()).sum();
    if bytes > CREDENTIAL_LIMIT {
        let problem =
            format!("the credentials have {bytes} bytes; a machine takes {CREDENTIAL_LIMIT}");
        return Err(Failure::message(Exit::Usage, problem));
    }
    // Command lines can be seen by every user of this machine, files of the scratch folder cannot.
    let mut strings = Vec::new();
    for (number, (name, bytes)) in credentials.iter().enumerate() {
        let path = scratch.join(format!("credential-{number}"));
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let text = baker_vm::credential_string(name, bytes);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(workdir_failure)?;
        strings.push(path);
    }
    Ok(Extras {
        smbios: strings,
        // A direct boot has them in its command line.
        append: match wanted.firmware {
            Firmware::Direct => Vec::new(),
            _ => wanted.append.clone(),
        },
        shares: Vec::new(),
        reads: None,
    })
}
