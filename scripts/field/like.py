"""The like of an image of baker, made by the field's other tools in the tree of scripts/field-tools.

Takes a draft; gives a folder in which mkosi, or mmdebstrap with the tools for file systems, verity,
unified kernels and partitions, make a disk of the same kind: a GPT with an ESP that holds one
unified kernel, an EROFS root with the same compression, its hash tree, and the root hash in the
command line. Packages come from a local archive that holds the locked versions and whatever else
the other tools cannot do without, so nothing is fetched while they are timed.
"""
import glob, hashlib, json, os, re, shutil, subprocess, tempfile, time, tomllib

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BAKER = os.environ.get("BAKER", os.path.join(HERE, "target", "release", "baker"))
STORE = os.path.expanduser(os.environ.get("BAKER_STORE", "~/.cache/baker"))

# What baker packs a root with when the recipe does not say (baker/build/src/image/mod.rs).
LEVEL, CLUSTER = 9, 16384

# What mkosi's own initrd is made of on Debian 13 (its mkosi-initrd configuration), and what an
# initrd by dracut wants. Kernels of Debian want some builder of initrds: that is dracut for both.
INITRD = """bash less p11-kit lvm2 kmod dmsetup libcryptsetup12 btrfs-progs e2fsprogs erofs-utils
dosfstools util-linux libfido2-1 libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-rc0t64
libtss2-tcti-device0t64 systemd-cryptsetup systemd-repart systemd-boot systemd-boot-efi dracut dpkg
systemd systemd-sysv udev cryptsetup-bin zstd""".split()

# What other tools run or read in the image after its packages are stripped, and does not get onto
# the disk: kernel and stub, and what reads kernel modules.
LATER = ["systemd-boot-efi", "kmod", "liblzma5"]

# What an initrd needs beside the drivers of disks.
VERITY = ["dm_mod", "dm_verity", "erofs", "overlay"]


# KiB that runs of baker had at most, the last one last.
PEAKS = []


class Failed(Exception):
    """A command that did not succeed, with its last words."""


def run(*command, **more):
    said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **more)
    if said.returncode != 0:
        words = (said.stdout + said.stderr).decode(errors="replace").strip().splitlines()
        raise Failed(f"{' '.join(command)[:200]}:\n" + "\n".join(words[-30:]))
    return said.stdout.decode(errors="replace")


def baker(*command):
    """What it says; the most memory that it had at once goes to PEAKS."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen([BAKER, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=errors)
        peak = 0
        # What the system says of an ended child counts its time as a copy of this program.
        while child.poll() is None:
            with open(f"/proc/{child.pid}/status") as status:
                found = re.search(r"VmHWM:\s+(\d+)", status.read())
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.002)
        words = {}
        for name, file in (("said", said), ("errors", errors)):
            file.seek(0)
            words[name] = file.read().decode(errors="replace")
    if child.returncode != 0:
        raise Failed(f"{' '.join((BAKER, *command))[:200]}:\n{words['errors'][-3000:]}")
    PEAKS.append(peak)
    return words["said"]


def tools():
    """The tree of scripts/field-tools, made when it is not there."""
    said = subprocess.run([os.path.join(HERE, "scripts", "field-tools")], check=True,
                          stdout=subprocess.PIPE).stdout.decode()
    return re.search(r"BAKER_FIELD_TOOLS='(.*)'", said)[1]


def timed(work):
    """What work gives, and the seconds it took."""
    began = time.monotonic()
    given = work()
    return given, time.monotonic() - began


def cold_store(recipe, folder):
    """A store that holds the inputs of a recipe and no result of any stage."""
    baker("--quiet", "fetch", recipe)
    with open(os.path.join(recipe, "recipe.lock"), "rb") as file:
        lock = tomllib.load(file)
    for package in lock["package"]:
        digest = package["sha256"]
        there, to = (os.path.join(store, "objects", digest[:2], digest) for store in (STORE, folder))
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if not os.path.exists(to):
            place(there, to)
    shutil.rmtree(os.path.join(folder, "stages"), ignore_errors=True)
    baker("--quiet", "--store", folder, "fetch", recipe)
    return folder


def write(text, *path):
    path = os.path.join(*path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


class Like:
    """What other tools are told of a draft, in a folder of its own."""

    def __init__(self, draft, folder):
        self.draft, self.folder, self.tools = draft, os.path.abspath(folder), tools()
        with open(os.path.join(draft, "recipe.toml"), "rb") as file:
            self.recipe = tomllib.load(file)
        with open(os.path.join(draft, "recipe.lock"), "rb") as file:
            self.lock = tomllib.load(file)
        self.disk, = glob.glob(os.path.join(draft, "*.raw"))
        spdx, = glob.glob(os.path.join(draft, "*.spdx.json"))
        with open(spdx) as file:
            self.files = {entry["fileName"][1:]: entry.get("comment", "").removeprefix("owner: ")
                          for entry in json.load(file)["files"]}
        self.survey = json.loads(baker("--quiet", "--json", "inspect", draft))
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.make_archive()
        self.own_files()
        self.strip_lists()

    def enter(self, *command, **more):
        """Runs a command in the tree of the field's tools; of the host it sees our folder."""
        return run(os.path.join(self.tools, "enter"), self.folder, *command, **more)

    # What goes in.

    def names(self, *roles):
        return [package["name"] for package in self.lock["package"] if package["role"] in roles]

    def kernel(self):
        return self.recipe["kernel"]["package"]

    def asked(self):
        """What other tools are told to install: all packages of the image by name, since resolvers
        choose differently between alternatives, and kernel and stub."""
        return [*self.names("root"), *self.names("kernel"), "systemd-boot-efi"]

    def make_archive(self):
        """An archive on disk, of one suite, that nobody has to fetch from."""
        archive = os.path.join(self.folder, "archive")
        os.makedirs(os.path.join(archive, "pool"))
        for package in self.closure():
            digest = package["sha256"]
            place(os.path.join(STORE, "objects", digest[:2], digest),
                  os.path.join(archive, "pool", os.path.basename(package["path"]).replace("%3a", ":")))
        self.archive = archive
        self.list_archive()

    def list_archive(self):
        """Writes the indexes of the archive."""
        index = []
        for path in sorted(glob.glob(os.path.join(self.archive, "pool", "*"))):
            with open(path, "rb") as file:
                data = file.read()
            index.append(run("dpkg-deb", "-f", path).rstrip("\n") + "\nFilename: pool/"
                         f"{os.path.basename(path)}\nSize: {len(data)}\n"
                         f"SHA256: {hashlib.sha256(data).hexdigest()}\n")
        listing = "\n".join(index)
        suite, where = os.path.join(self.archive, "dists", "trixie"), "main/binary-amd64/Packages"
        write(listing, suite, where)
        digest, size = hashlib.sha256(listing.encode()).hexdigest(), len(listing.encode())
        write("Origin: local\nSuite: trixie\nCodename: trixie\nArchitectures: amd64\n"
              f"Components: main\nSHA256:\n {digest} {size} {where}\n", suite, "Release")

    def newer_version(self, name, mark, store):
        """Puts a package with a higher version in the place of one; gives what a lock says of it."""
        package = next(one for one in self.lock["package"] if one["name"] == name)
        pool = os.path.join(self.archive, "pool")
        old, = glob.glob(os.path.join(pool, f"{name}_*"))
        folder = os.path.join(self.folder, "newer")
        shutil.rmtree(folder, ignore_errors=True)
        run("dpkg-deb", "-R", old, folder)
        control = os.path.join(folder, "DEBIAN", "control")
        with open(control) as file:
            text = file.read()
        version = f"{package['version']}+{mark}"
        write(re.sub(r"^Version: .*", f"Version: {version}", text, flags=re.M), control)
        os.remove(old)
        run("dpkg-deb", "--root-owner-group", "-b", folder, old)
        with open(old, "rb") as file:
            data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        to = os.path.join(store, "objects", digest[:2], digest)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(old, to)
        self.list_archive()
        return {"version": version, "size": len(data), "sha256": digest}

    @staticmethod
    def relock(lock, name, new):
        """Writes another version of a package into a lock, by hand: no archive has it."""
        with open(lock) as file:
            head, *stanzas = file.read().split("[[package]]")
        for number, stanza in enumerate(stanzas):
            if f'\nname = "{name}"\n' in stanza:
                for key, value in new.items():
                    value = value if isinstance(value, int) else f'"{value}"'
                    stanza = re.sub(f"^{key} = .*", f"{key} = {value}", stanza, flags=re.M)
                stanzas[number] = stanza
        write("[[package]]".join([head, *stanzas]), lock)

    def closure(self):
        """Packages of the lock, and what other tools need beside them: baker resolves those."""
        known = {package["name"]: package for package in self.lock["package"]}
        names = sorted({*self.recipe["debian"]["packages"], *INITRD})
        listed = ", ".join(f'"{name}"' for name in names)
        # Nothing is assumed here: the other tools install by apt, which wants every dependency.
        write(f'name = "archive"\nversion = "1.0.0"\n[debian]\nsuite = "trixie"\n'
              f'packages = [{listed}]\nscripts = "sandbox"\n'
              f'[kernel]\npackage = "{self.kernel()}"\nmodules = ["virtio_blk"]\n',
              self.folder, "closure", "recipe.toml")
        folder = os.path.join(self.folder, "closure")
        baker("--quiet", "lock", folder)
        with open(os.path.join(folder, "recipe.lock"), "rb") as file:
            found = tomllib.load(file)["package"]
        for package in found:
            locked = known.get(package["name"])
            if locked and locked["version"] != package["version"]:
                raise Failed(f"the archive has {package['name']} {package['version']}, the lock "
                             f"{locked['version']}: baker lock --update, then bake again")
        baker("--quiet", "fetch", folder)
        return list({**known, **{package["name"]: package for package in found}}.values())

    def extract(self, to):
        """Unpacks the root of baker's disk."""
        number = self.survey["root"]["partition"]
        offset = next(part["offset"] for part in self.survey["partitions"] if part["number"] == number)
        copy = os.path.join(self.folder, "baker.raw")
        shutil.copy(self.disk, copy)
        self.enter("fsck.erofs", f"--offset={offset}", f"--extract={to}", copy)
        os.remove(copy)
        return to

    def own_files(self):
        """The files that the recipe brings, as they are in the image of baker; its services."""
        extra, root = (os.path.join(self.folder, name) for name in ("extra", "root"))
        os.makedirs(extra)
        self.extract(root)
        for path in (path for path, owner in self.files.items() if owner == "recipe"):
            if os.path.lexists(root + path) and not path.startswith("/usr/share/factory/"):
                os.makedirs(os.path.dirname(extra + path), exist_ok=True)
                run("cp", "-a", root + path, extra + path)
        shutil.rmtree(root)
        enabled = sorted({unit["name"] for unit in self.survey["root"]["units"]
                          if unit["how"] == "wants" and not unit["vendor"]})
        presets = [f"enable {name}" for name in enabled] + ["disable *"]
        write("\n".join(presets) + "\n", extra, "usr/lib/systemd/system-preset/00-recipe.preset")
        write("".join(map(sysuser, [*self.recipe.get("group", []), *self.recipe.get("user", [])])),
              extra, "usr/lib/sysusers.d/recipe.conf")
        links = {link["path"]: link["target"] for link in self.recipe.get("link", [])}
        for name in self.recipe.get("services", {}).get("mask", []):
            links[f"/etc/systemd/system/{name}"] = "/dev/null"
        for path, target in links.items():
            os.makedirs(os.path.dirname(extra + path), exist_ok=True)
            os.symlink(target, extra + path)

    def strip_lists(self):
        folder = os.path.join(self.folder, "strip")
        self.modules = sorted({name.replace("-", "_") for kernel in self.survey["root"]["modules"]
                               for name in kernel["names"]})
        if self.recipe["kernel"].get("root-modules") == "all":
            self.modules = []
        self.drivers = [name.replace("-", "_") for name in self.recipe["kernel"]["modules"]]
        roots = self.names("root")
        self.later = [name for name in LATER if name not in roots]
        write("\n".join(roots), folder, "packages")
        write("\n".join([*self.later, *self.names("kernel")]), folder, "later")
        # A database of devices is made by whoever builds; one that nobody asked for goes again.
        made = [path for path in ["/usr/lib/udev/hwdb.bin"] if path not in self.files]
        exclude = [*self.recipe.get("root", {}).get("exclude", []), *made]
        write("\n".join(exclude), folder, "exclude")
        keep = sorted({*self.modules, *self.drivers, *VERITY, *self.initrd_modules()})
        write("\n".join(keep) if self.modules else "", folder, "modules")
        shutil.copy(os.path.join(HERE, "scripts", "field", "strip.py"), folder)
        os.chmod(os.path.join(folder, "strip.py"), 0o755)

    def initrd_modules(self):
        """What the drivers of the initrd stand on."""
        return [os.path.basename(path).partition(".ko")[0].replace("-", "_") for path in self.files
                if path.startswith("/.initrd/lib/modules/") and ".ko" in path]

    def later_files(self):
        """The paths in the root that must not get onto the disk."""
        yield f"/usr/lib/modules/{self.release()}/vmlinuz"
        for name in self.later:
            deb, = glob.glob(os.path.join(self.archive, "pool", f"{name}_*"))
            for line in run("dpkg-deb", "--contents", deb).splitlines():
                if not line.startswith("d"):
                    path = line.split(maxsplit=5)[5].partition(" -> ")[0].removeprefix(".")
                    yield re.sub("^/(s?bin|lib)/", r"/usr/\1/", path)

    def release(self):
        kernel, = self.names("kernel")
        return kernel.removeprefix("linux-image-")

    def command_line(self):
        # The root is read-only: systemd puts memory over it, so that every service can start.
        return [*self.recipe["kernel"]["command-line"], "systemd.volatile=overlay",
                "systemd.getty_auto=no"]

    def epoch(self):
        return self.lock["epoch"]


def sysuser(account):
    """The line of sysusers.d for a `[[user]]` or `[[group]]`."""
    if "gid" in account or "home" not in account:
        return f"g {account['name']} {account.get('gid', '-')}\n"
    return (f"u {account['name']} {account.get('uid', '-')} \"{account.get('comment', '')}\" "
            f"{account['home']} {account.get('shell', '/usr/sbin/nologin')}\n")


def place(there, to):
    try:
        os.link(there, to)
    except OSError:
        shutil.copy(there, to)
