//! A machine for a person: console attached, ports, credentials and kernel arguments as
//! wanted.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use baker_model::manifest::FileRole;
use baker_model::plan::{DiskBus, Firmware, TestPlan};
use baker_vm::{
    Boot, Disk, Display, Extras, Forward, Machine, Medium, MediumFormat, Network, OnReset,
    ProbeOffer, Tpm, Watchdog, Writes,
};

use super::{Booted, Host, host, workdir_failure};
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
    let mut boot = booted.boot(firmware, &host, scratch.path())?;
    if let Boot::Direct(direct) = &mut boot {
        for word in &wanted.append {
            direct.append.push(' ');
            direct.append.push_str(word);
        }
    }
    let machine = Machine {
        architecture: host.qemu.architecture,
        boot,
        accelerator: host.accelerator.accelerator,
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
        extras: extras(wanted, scratch.path())?,
    };
    context.printer().say(&format!(
        "{}; Ctrl-A X ends the machine",
        host.accelerator.reason
    ));
    for Forward { host, guest } in &wanted.ports {
        let line = format!("port {guest} of the guest is 127.0.0.1:{host}");
        context.printer().say(&line);
    }
    let status = baker_vm::run(&host.qemu, &machine, context.interrupt())
        .map_err(|error| context.failure(Exit::Environment, error))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::message(
            Exit::Smoke,
            format!("QEMU ended with {status}"),
        )),
    }
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
    let mut credentials = Vec::new();
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
    })
}
