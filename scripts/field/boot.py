"""One boot of a disk by UEFI, whoever made it, and what its guest says of itself at the target.

The marker is the same for all: two system credentials give systemd a unit that starts after
multi-user.target and copies /proc/meminfo to the serial console. It needs no shell, only
systemd-creds, which is part of systemd. QEMU is told what `baker test` tells it.
"""
import base64, os, re, subprocess, tempfile, time

ACCELERATOR = os.environ.get("ACCELERATOR", "tcg,thread=single")
# The machine of `baker test`, with QEMU before 8.1.1.
MACHINE = ("-machine", "q35,sata=off,smbus=off,i8042=off", "-accel", ACCELERATOR,
           "-cpu", "max,-cx16,-la57,-erms", "-smp", "2")
PATIENCE = 300

UNIT = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
LoadCredential=meminfo:/proc/meminfo
ExecStart=systemd-creds cat meminfo
StandardOutput=tty
TTYPath=/dev/ttyS0
"""
CREDENTIALS = {"systemd.extra-unit.field-marker.service": UNIT,
               "systemd.unit-dropin.multi-user.target": "[Unit]\nWants=field-marker.service\n"}
# Read in the order in which /proc/meminfo has them; the last one ends the boot.
FIELDS = ("MemTotal", "MemFree", "MemAvailable")


class Silent(Exception):
    """The marker did not come."""


def smbios(folder):
    strings = ["io.systemd.stub.kernel-cmdline-extra=no_timer_check"]
    for name, text in CREDENTIALS.items():
        words = base64.b64encode(text.encode()).decode()
        strings.append(f"io.systemd.credential.binary:{name}={words}")
    for number, string in enumerate(strings):
        path = os.path.join(folder, f"smbios{number}")
        with open(path, "w") as file:
            file.write(string)
        yield from ("-smbios", f"type=11,path={path}")


def argv(disk, memory, folder):
    flash = "if=pflash,format=raw,unit={},file=/usr/share/OVMF/OVMF_{}_4M.fd,{}=on"
    return ["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-display", "none",
            *MACHINE,
            "-m", str(memory), "-drive", flash.format(0, "CODE", "readonly"),
            "-drive", flash.format(1, "VARS", "snapshot"), *smbios(folder), "-boot", "strict=on",
            "-drive", f"if=none,id=disk,format=raw,snapshot=on,file={disk}",
            "-device", "virtio-blk-pci,drive=disk,bootindex=1",
            "-netdev", "user,id=net0,restrict=on",
            "-device", "virtio-net-pci,netdev=net0,romfile=", "-no-reboot", "-serial", "stdio"]


def boot(disk, log, memory=1024):
    """Seconds from QEMU's start to the marker, MiB in use then, CPUs that others kept busy meanwhile.

    The console goes to `log`.
    """
    with tempfile.TemporaryDirectory() as folder, open(log, "wb") as console, Others() as others:
        began = time.monotonic()
        child = subprocess.Popen(argv(disk, memory, folder), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            found = follow(child, began, console)
        finally:
            child.kill()
            child.wait()
    return {**found, "others": others.cpus}


class Others:
    """CPUs that were busy with what is no child of ours, on average: how quiet a machine was."""

    def __enter__(self):
        self.began, self.before = time.monotonic(), self.used()
        return self

    def __exit__(self, *_):
        used = (self.used() - self.before) / (time.monotonic() - self.began)
        # What was counted in between can be a little less than what our own used.
        self.cpus = max(0.0, round(used, 2))

    @staticmethod
    def used():
        with open("/proc/stat") as file:
            words = file.readline().split()
        idle = int(words[4]) + int(words[5])
        busy = (sum(map(int, words[1:9])) - idle) / os.sysconf("SC_CLK_TCK")
        own = os.times()
        return busy - own.user - own.system - own.children_user - own.children_system


def machine():
    """What kind of machine this is, in a line."""
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")),
                   os.uname().machine)
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / 2**20
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE).stdout.decode()
    version = re.search(r"version (\S+)", qemu)[1]
    return (f"{os.cpu_count()} CPUs ({cpu}), {memory:.0f} GiB, Linux {os.uname().release}, "
            f"QEMU {version} ({ACCELERATOR})")


def follow(child, began, console):
    os.set_blocking(child.stdout.fileno(), False)
    text, found = b"", {}
    while time.monotonic() - began < PATIENCE:
        new = child.stdout.read()
        if new is None:
            time.sleep(0.02)
            continue
        if not new:
            break
        console.write(new)
        text = (text + new)[-65536:]
        for field in FIELDS:
            match = re.search(rf"{field}: +(\d+) kB\r?\n".encode(), text)
            found.update({field: int(match[1])} if match else {})
        if FIELDS[-1] in found:
            used = (found["MemTotal"] - found["MemAvailable"]) / 1024
            return {"seconds": round(time.monotonic() - began, 2), "memory": round(used, 1)}
    raise Silent(f"no word from {console.name} after {time.monotonic() - began:.0f} s; "
                 f"its last ones: {text[-300:].decode(errors='replace')}")
