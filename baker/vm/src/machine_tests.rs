//! Command lines as they stand; every change of them must be seen here.

use std::path::Path;

use super::*;
use crate::accelerator::Accelerator;
use crate::architecture::Architecture;
use crate::arguments::shell_line;
use crate::machine::{DirectBoot, Extras, Threads};
use crate::subject::Medium;
use crate::testing::bare_machine;

fn machine(boot: Boot) -> Machine {
    Machine {
        cpu: "max,-la57".into(),
        threads: Threads::Each,
        cpus: 2,
        memory_mib: 512,
        disk: Some(Disk {
            medium: Medium {
                path: "/r/disk,1.raw".into(),
                format: MediumFormat::Raw,
            },
            writes: Writes::Discarded,
        }),
        probe: ProbeOffer::Port,
        networks: 1,
        ..bare_machine(boot)
    }
}

fn direct(append: &str) -> Boot {
    Boot::Direct(DirectBoot {
        kernel: "/r/vmlinuz".into(),
        initrd: "/r/initrd".into(),
        append: append.into(),
    })
}

fn uefi() -> Boot {
    Boot::Uefi(Ovmf {
        code: "/f/CODE.fd".into(),
        vars: "/f/VARS.fd".into(),
    })
}

fn line(machine: &Machine, attachment: Attachment<'_>) -> String {
    shell_line(Path::new("qemu"), &machine.argv(attachment))
}

#[test]
fn a_direct_boot_for_a_person() {
    let found = line(
        &machine(direct("console=ttyS0 panic=-1")),
        Attachment::Terminal,
    );
    let expected = "qemu -no-user-config -nodefaults -name baker -display none -machine q35 \
        -accel tcg,thread=multi -cpu max,-la57 -smp 2 -m 512 -kernel /r/vmlinuz -initrd /r/initrd \
        -append 'console=ttyS0 panic=-1 no_timer_check' \
        -drive if=none,id=disk,format=raw,snapshot=on,file=/r/disk,,1.raw \
        -device virtio-blk-pci,drive=disk,bootindex=1 -netdev user,id=net0,restrict=on \
        -device virtio-net-pci,netdev=net0,romfile= -device pvpanic-pci -action panic=none \
        -no-reboot -chardev stdio,id=console,mux=on,signal=off -serial chardev:console \
        -mon chardev=console,mode=readline";
    assert_eq!(found, expected);
}

#[test]
fn a_uefi_boot_under_observation() {
    let sockets = Sockets {
        qmp: "/s/qmp".into(),
        serial: "/s/serial".into(),
        probe: "/s/probe".into(),
        tpm: "/s/tpm".into(),
        links: "/s".into(),
        serial_log: "/e/serial.log".into(),
    };
    let mut machine = machine(uefi());
    machine.forwards = vec![Forward { host: 0, guest: 80 }];
    let expected = "qemu -no-user-config -nodefaults -name baker -display none -machine q35 \
        -accel tcg,thread=multi -cpu max,-la57 -smp 2 -m 512 \
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/f/CODE.fd \
        -drive if=pflash,unit=1,format=raw,snapshot=on,file=/f/VARS.fd \
        -smbios type=11,value=io.systemd.stub.kernel-cmdline-extra=no_timer_check \
        -boot strict=on -drive if=none,id=disk,format=raw,snapshot=on,file=/r/disk,,1.raw \
        -device virtio-blk-pci,drive=disk,bootindex=1 \
        -netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:80 \
        -device virtio-net-pci,netdev=net0,romfile= -device pvpanic-pci -action panic=none \
        -no-reboot -chardev socket,id=qmp,server=off,path=/s/qmp -mon chardev=qmp,mode=control \
        -chardev socket,id=console,server=off,path=/s/serial,logfile=/e/serial.log \
        -serial chardev:console -chardev socket,id=probe,server=off,path=/s/probe \
        -device virtio-serial-pci -device virtserialport,chardev=probe,name=baker.probe.1 -S";
    assert_eq!(line(&machine, Attachment::Observed(&sockets)), expected);
}

#[test]
fn each_link_is_a_card_of_its_own() {
    let mac = "52:54:00:6c:6b:01".to_owned();
    let mut machine = machine(uefi());
    machine.networks = 0;
    machine.links = vec![Link { mac }];
    let card = " -device virtio-net-pci,netdev=link1,romfile=,mac=52:54:00:6c:6b:01 ";
    let netdev = "-netdev dgram,id=link1,local.type=unix,remote.type=unix,\
        local.path=/s/link1.machine,remote.path=/s/link1.neighbour";
    let found = observed(&machine);
    assert!(found.contains(&format!("{netdev}{card}")), "{found}");
    assert!(!found.contains("id=net0"), "{found}");
    let found = line(&machine, Attachment::Terminal);
    let alone = format!("-netdev hubport,id=link1,hubid=1{card}");
    assert!(found.contains(&alone), "{found}");
}

#[test]
fn secure_boot_wants_a_machine_with_a_guarded_variable_store() {
    let Boot::Uefi(ovmf) = uefi() else {
        unreachable!()
    };
    let found = line(&machine(Boot::UefiSecure(ovmf)), Attachment::Terminal);
    let start = "qemu -no-user-config -nodefaults -name baker -display none -machine q35,smm=on \
        -global driver=cfi.pflash01,property=secure,value=on \
        -accel tcg,thread=multi -cpu max,-la57 -smp 2 -m 512 \
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/f/CODE.fd \
        -drive if=pflash,unit=1,format=raw,snapshot=on,file=/f/VARS.fd -smbios";
    assert!(found.starts_with(start), "{found}");
    assert!(!line(&machine(uefi()), Attachment::Terminal).contains("smm"));
}

#[test]
fn the_timer_check_is_left_out_once_and_only_when_emulated() {
    let twice = line(
        &machine(direct("no_timer_check quiet")),
        Attachment::Terminal,
    );
    assert_eq!(twice.matches("no_timer_check").count(), 1);
    let mut real = machine(direct("quiet"));
    real.accelerator = Accelerator::Kvm;
    assert!(line(&real, Attachment::Terminal).contains("-accel kvm"));
    assert!(!line(&real, Attachment::Terminal).contains("no_timer_check"));
    real.boot = uefi();
    assert!(!line(&real, Attachment::Terminal).contains("-smbios"));
}

#[test]
fn each_bus_names_its_device_and_the_person_may_restart() {
    let rows = [
        (
            DiskBus::Nvme,
            "-device nvme,drive=disk,serial=baker,bootindex=1",
        ),
        (
            DiskBus::Sata,
            "-device ich9-ahci,id=sata -device ide-hd,bus=sata.0,drive=disk,bootindex=1",
        ),
        (
            DiskBus::Scsi,
            "-device virtio-scsi-pci,id=scsi -device scsi-hd,bus=scsi.0,drive=disk,boot",
        ),
    ];
    for (bus, expected) in rows {
        let mut machine = machine(Boot::Bios);
        machine.bus = bus;
        machine.on_reset = OnReset::Restart;
        machine.network = Network::Open;
        let found = line(&machine, Attachment::Terminal);
        assert!(found.contains(expected), "{found}");
        assert!(
            !found.contains("-no-reboot") && !found.contains("restrict"),
            "{found}"
        );
    }
}

fn observed(machine: &Machine) -> String {
    let sockets = Sockets {
        qmp: "/s/qmp".into(),
        serial: "/s/serial".into(),
        probe: "/s/probe".into(),
        tpm: "/s/tpm".into(),
        links: "/s".into(),
        serial_log: "/e/serial.log".into(),
    };
    line(machine, Attachment::Observed(&sockets))
}

#[test]
fn every_format_is_opened_as_what_it_is_and_kept_only_when_wanted() {
    let rows = [
        (
            MediumFormat::Qcow2,
            "id=disk,format=qcow2,snapshot=on,file=/r/x",
        ),
        (
            MediumFormat::Vmdk,
            "id=disk,format=vmdk,snapshot=on,file=/r/x",
        ),
        (
            MediumFormat::Vpc,
            "id=disk,format=vpc,snapshot=on,file=/r/x",
        ),
        (
            MediumFormat::Iso,
            "id=disk,format=raw,media=cdrom,readonly=on,file=/r/x -device ich9-ahci,id=sata \
             -device ide-cd,bus=sata.0,drive=disk,bootindex=1",
        ),
    ];
    for (format, expected) in rows {
        let mut machine = machine(Boot::Bios);
        let medium = Medium {
            path: "/r/x".into(),
            format,
        };
        let writes = Writes::Discarded;
        machine.disk = Some(Disk { medium, writes });
        let found = line(&machine, Attachment::Terminal);
        assert!(found.contains(expected), "{found}");
    }
    let mut kept = machine(Boot::Bios);
    if let Some(disk) = &mut kept.disk {
        disk.writes = Writes::Kept;
    }
    let found = line(&kept, Attachment::Terminal);
    assert!(!found.contains("snapshot=on"), "{found}");
    kept.disk = None;
    let found = line(&kept, Attachment::Terminal);
    assert!(!found.contains("drive"), "{found}");
}

#[test]
fn cards_have_networks_of_their_own_and_the_first_is_the_way_in() {
    let mut machine = machine(Boot::Bios);
    machine.networks = 2;
    machine.forwards = vec![Forward { host: 0, guest: 80 }];
    let expected = "-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:80 \
        -device virtio-net-pci,netdev=net0,romfile= \
        -netdev user,id=net1,net=10.0.3.0/24,restrict=on \
        -device virtio-net-pci,netdev=net1,romfile=";
    let found = line(&machine, Attachment::Terminal);
    assert!(found.contains(expected), "{found}");
    machine.networks = 0;
    assert!(!line(&machine, Attachment::Terminal).contains("net"));
}

#[test]
fn a_probe_on_a_disk_comes_with_its_credentials_and_its_own_port() {
    let mut machine = machine(Boot::Bios);
    machine.probe = ProbeOffer::Disk("/p.fat".into());
    let found = observed(&machine);
    let parts = [
        "-drive if=none,id=probe-disk,format=raw,readonly=on,file=/p.fat",
        "-device virtio-blk-pci,drive=probe-disk,serial=baker-probe ",
        "type=11,value=io.systemd.credential.binary:systemd.extra-unit.baker-probe.service=W1VuaXRd",
        "virtserialport,chardev=probe,name=baker.disk-probe.1",
    ];
    for part in parts {
        assert!(found.contains(part), "{part}: {found}");
    }
    machine.probe = ProbeOffer::None;
    assert!(!observed(&machine).contains("probe"));
}

#[test]
fn display_and_watchdog_are_there_when_wanted() {
    let mut machine = machine(Boot::Bios);
    let plain = line(&machine, Attachment::Terminal);
    assert!(
        !plain.contains("VGA") && !plain.contains("watchdog"),
        "{plain}"
    );
    machine.display = Display::Hidden;
    machine.watchdog = Watchdog::Resets;
    let found = line(&machine, Attachment::Terminal);
    assert!(found.contains("-device VGA "), "{found}");
    assert!(
        found.contains("-device i6300esb -action watchdog=reset"),
        "{found}"
    );
}

#[test]
fn an_arm_machine_has_nothing_of_a_pc() {
    let mut machine = machine(uefi());
    machine.architecture = Architecture::Arm64;
    machine.board = "virt".into();
    machine.bus = DiskBus::Sata;
    machine.display = Display::Hidden;
    let found = line(&machine, Attachment::Terminal);
    for part in [
        "-machine virt ",
        "virtio-gpu-pci",
        "ich9-ahci,id=sata",
        "bus=sata.0",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    for part in ["q35", "no_timer_check", "smm", "VGA"] {
        assert!(!found.contains(part), "{part}: {found}");
    }
}

#[test]
fn what_a_person_hands_over_is_on_no_command_line_that_others_see() {
    let mut machine = machine(uefi());
    machine.extras = Extras {
        smbios: vec!["/tmp/a,b".into()],
        append: vec!["debug".into(), "systemd.mask=a,b".into()],
        shares: vec!["/tmp/s,1".into()],
        reads: Some("/tmp/r,1".into()),
    };
    let found = line(&machine, Attachment::Terminal);
    for part in [
        "-smbios 'type=11,value=io.systemd.stub.kernel-cmdline-extra=no_timer_check debug \
         systemd.mask=a,,b'",
        "-smbios type=11,path=/tmp/a,,b",
        "-trace enable=virtio_blk_handle_read,file=/tmp/r,,1",
        "-object memory-backend-memfd,id=memory,share=on,size=",
        ",memory-backend=memory -accel",
        "-chardev socket,id=share0,path=/tmp/s,,1 -device vhost-user-fs-pci,chardev=share0,tag=share0",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    machine.extras = Extras::default();
    let found = line(&machine, Attachment::Terminal);
    assert!(!found.contains("path="), "{found}");
    assert!(!found.contains("memory-backend"), "{found}");
    assert!(!found.contains("-trace"), "{found}");
}
