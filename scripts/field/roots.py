"""Roots that differ in the way they are packed: what each costs in bytes, bakes, boots and reads.

Takes a recipe; gives figures per way. Bytes and bakes are those of the recipe. Boots and reads are
those of another, made here: the same with an interpreter, a large file of what the root is made of,
and a unit that reads it once the target is reached and tells the serial console (read.py).
"""
import glob, json, os, re, shutil, struct, subprocess, time, typing

from field import boot, disk, like

MIB = 1 << 20
# Bytes of the file that is read: more than is unpacked ahead by any cluster.
DATA = 32 * MIB
PATIENCE = 900
QEMU = ["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
        *boot.MACHINE,
        "-m", "512", "-serial", "stdio", "-device", "virtio-blk-pci,drive=disk"]
TARGET = "Reached target multi-user"

UNIT = """\
[Unit]
Description=Reads of a large file
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /usr/lib/bench/read.py
TimeoutStartSec=infinity
StandardOutput=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""
FILES = """
[[file]]
path = "/usr/share/bench/data"
source = "files/bench-data"

[[file]]
path = "/usr/lib/bench/read.py"
source = "files/bench-read.py"

[[file]]
path = "/usr/lib/systemd/system/bench-read.service"
source = "files/bench-read.service"
"""


class Way(typing.NamedTuple):
    """How a root is packed; what is None is left to baker."""
    format: str
    compression: str
    level: int | None = None
    cluster: int | None = None

    def name(self):
        level = "" if self.level is None else f" {self.level}"
        cluster = "" if self.cluster is None else f", {self.cluster >> 10} KiB"
        return f"{self.format} {self.compression}{level}{cluster}"

    def keys(self):
        given = {"level": self.level, "cluster-size": self.cluster}
        return (f'format = "{self.format}"\ncompression = "{self.compression}"\n'
                + "".join(f"{key} = {value}\n" for key, value in given.items() if value is not None))


DEFAULT = Way("erofs", "zstd", like.LEVEL, like.CLUSTER)
WAYS = [Way("erofs", "none"),
        *(Way("erofs", "lz4hc", level, kib << 10) for level, kib in [(9, 4), (9, 16), (9, 64), (12, 64)]),
        *(Way("erofs", "zstd", level, like.CLUSTER) for level in (1, 3, 6, 9, 12, 15, 19)),
        *(Way("erofs", "zstd", 9, kib << 10) for kib in (4, 8, 32, 64, 128, 256, 1024)),
        *(Way("erofs", "zstd", 19, kib << 10) for kib in (64, 128)),
        Way("squashfs", "zstd", 9), Way("squashfs", "zstd", 15)]
QUICK = [Way("erofs", "lz4hc", 9, 64 << 10), Way("erofs", "zstd", 9, 64 << 10), DEFAULT]


def packed_in(text, way):
    """A recipe's text with another way to pack its root."""
    keys = r"^(format|compression|level|cluster-size) *=.*\n"
    section = re.compile(r"^\[root\]\n(?:(?!^\[).*\n?)*", re.M)
    found = section.search(text)
    if not found:
        return f"{text}\n[root]\n{way.keys()}"
    kept = re.sub(keys, "", found[0].removeprefix("[root]\n"), flags=re.M)
    return f"{text[:found.start()]}[root]\n{way.keys()}{kept}{text[found.end():]}"


class Roots:
    """The recipes, a store with all that they need, and what is known of their bakes."""

    def __init__(self, recipe, folder):
        self.folder, self.store, self.locks = folder, os.path.join(folder, "store"), {}
        with open(os.path.join(recipe, "recipe.toml")) as file:
            # Unsigned: signatures for firmware are no matter of how a root is packed.
            text = file.read().replace("secure-boot = true", "secure-boot = false")
        self.text = text.replace('firmware = "uefi-secure"', 'firmware = "uefi"')
        self.plain, self.reads = (os.path.join(folder, name) for name in ("plain", "reads"))
        for to in (self.plain, self.reads):
            shutil.rmtree(to, ignore_errors=True)
            shutil.copytree(recipe, to)

    def tree(self, fsck):
        """The root of the recipe's disk, unpacked."""
        to = os.path.join(self.folder, "tree")
        shutil.rmtree(to, ignore_errors=True)
        self.ready(self.plain, self.text, DEFAULT)
        draft = self.bake(self.plain, "drafts")
        image, = glob.glob(os.path.join(draft, "*.raw"))
        offset = offsets(draft)["erofs"]
        like.run(*fsck, f"--offset={offset}", f"--extract={to}", image)
        return to

    def make_reads(self, tree):
        """The recipe whose disk is booted and read, with a file of what is in a tree."""
        self.reading = self.reading_text()
        like.write(UNIT, self.reads, "files", "bench-read.service")
        shutil.copy(os.path.join(like.HERE, "scripts", "field", "read.py"),
                    os.path.join(self.reads, "files", "bench-read.py"))
        gather(tree, os.path.join(self.reads, "files", "bench-data"))

    def reading_text(self):
        """The recipe with what reads a large file once its target is reached."""
        text = re.sub(r"^packages = \[", 'packages = ["python3-minimal", ', self.text, count=1, flags=re.M)
        name = '"bench-read.service"'
        if re.search(r"^\[services\]", text, flags=re.M):
            if re.search(r"^enable = \[", text, flags=re.M):
                return re.sub(r"^enable = \[", f"enable = [{name}, ", text, count=1, flags=re.M) + FILES
            return text.replace("[services]\n", f"[services]\nenable = [{name}]\n", 1) + FILES
        return f"{text}{FILES}\n[services]\nenable = [{name}]\n"

    def ready(self, recipe, text, way):
        """Writes a recipe, and its lock; versions that were locked before stay."""
        like.write(packed_in(text, way), recipe, "recipe.toml")
        known = self.locks.get((recipe, way))
        if known:
            like.write(known, recipe, "recipe.lock")
            return
        like.baker("--quiet", "lock", recipe)
        like.cold_store(recipe, self.store)
        with open(os.path.join(recipe, "recipe.lock")) as file:
            self.locks[recipe, way] = file.read()

    def bake(self, recipe, name, *options):
        to = os.path.join(self.folder, name)
        shutil.rmtree(to, ignore_errors=True)
        return like.baker("--quiet", "--store", self.store, "bake", recipe, "--to", to, *options).strip()

    def timed_bake(self, way):
        """One bake with nothing kept, and the bytes that it made."""
        self.ready(self.plain, self.text, way)
        with boot.Others() as others:
            draft, seconds = like.timed(lambda: self.bake(self.plain, "drafts", "--anew"))
        image, = glob.glob(os.path.join(draft, "*.raw"))
        return {"seconds": round(seconds, 3), "root": root_bytes(draft, image), "disk": disk.data(image),
                "others": others.cpus}

    def reading_draft(self, way, number):
        self.ready(self.reads, self.reading, way)
        return self.bake(self.reads, f"reads-{number}")

    def boot(self, draft, log):
        """Seconds to the target, and what the reads took."""
        words = parts(draft, self.folder)
        image, = glob.glob(os.path.join(draft, "*.raw"))
        command = [*QEMU, "-drive", f"if=none,id=disk,format=raw,snapshot=on,file={image}", *words]
        with boot.Others() as others, open(log, "wb") as console:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            try:
                found = follow(child.stdout, console)
            finally:
                child.kill()
                child.wait()
        return {**found, "others": others.cpus}


def gather(tree, path):
    """One file of a tree's larger ones, programs and libraries for the most part."""
    left = DATA
    with open(path, "wb") as to:
        for place, folders, names in os.walk(os.path.join(tree, "usr")):
            folders.sort()
            for source in (os.path.join(place, name) for name in sorted(names)):
                if left and not os.path.islink(source) and os.path.getsize(source) >= 64 << 10:
                    with open(source, "rb") as file:
                        left -= to.write(file.read(left))
    if left:
        raise like.Failed(f"{tree} has {(DATA - left) >> 20} MiB of larger files, {DATA >> 20} are wanted")


def root_bytes(draft, image):
    """Bytes of the file system in the root partition, by its superblock."""
    found = offsets(draft)
    if "erofs" in found:
        return disk.packed(image, [{"content": "erofs", "offset": found["erofs"]}])
    with open(image, "rb") as file:
        file.seek(found["squashfs"] + 40)
        return struct.unpack("<Q", file.read(8))[0]


def offsets(draft):
    """Where in the disk of a draft what begins."""
    survey = json.loads(like.baker("--quiet", "--json", "inspect", draft))
    return {part.get("content"): part["offset"] for part in survey["partitions"]}


def parts(draft, folder):
    """What QEMU is told of kernel, initrd and command line of a draft, with the kernel's messages on."""
    uki = next(name for name in os.listdir(draft) if name.endswith(".efi"))
    to = lambda section: os.path.join(folder, section)
    for section in ("linux", "initrd", "cmdline"):
        like.run("objcopy", "-O", "binary", f"--only-section=.{section}", os.path.join(draft, uki),
                 to(section))
    with open(to("cmdline"), "rb") as file:
        own = file.read().rstrip(b"\0\n").decode().split()
    words = [*(word for word in own if word != "quiet"), "no_timer_check", "systemd.show_status=1"]
    return ["-kernel", to("linux"), "-initrd", to("initrd"), "-append", " ".join(words)]


def follow(lines, console):
    """From the kernel's first line to the target, and the lines of read.py."""
    began, first, found = time.monotonic(), None, {"random": [], "sequential": []}
    for line in lines:
        console.write(line)
        now, text = time.monotonic(), line.decode(errors="replace")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        first = first or ("Linux version" in text and now) or None
        if first and TARGET in text and "boot" not in found:
            found["boot"] = round(now - first, 2)
        said = re.search(r"BENCH (random|sequential) ([\d ]+)", text)
        if said:
            found[said[1]].append([int(word) for word in said[2].split()])
        if "BENCH end" in text:
            return found
        if now - began > PATIENCE:
            break
    raise boot.Silent(f"the reads did not end; the console is in {console.name}")
