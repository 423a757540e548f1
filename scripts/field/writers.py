"""Writers of EROFS images beside each other: baker's own and the field's mkfs.erofs, on one tree.

Both are started the same way, on a tree that lies in the page cache, and write into memory, so no
disk counts. mkfs.erofs comes from the tree of scripts/field-tools and runs by that tree's own
loader and libraries: entering the tree would cost as much as a small image.
"""
import glob, hashlib, os, re, shutil, stat, subprocess, tempfile, time, typing

from field import boot, like

# The time of both the images and of all that is in them; so inodes are of the short kind in both.
EPOCH = 1700000000
UUID = "00000000-0000-4000-8000-000000000001"


class Setting(typing.NamedTuple):
    algorithm: str
    level: int
    cluster: int

    def name(self):
        return f"{self.algorithm} {self.level}, {self.cluster >> 10} KiB"


ALGORITHMS = [("lz4hc", 9), ("lz4hc", 12), ("zstd", 3), ("zstd", 9), ("zstd", 15)]
# 4 KiB is what mkfs.erofs takes when nobody says anything, and 16 KiB what baker does.
CLUSTERS = [4 << 10, 16 << 10, 64 << 10]
SETTINGS = [Setting(*how, cluster) for how in ALGORITHMS for cluster in CLUSTERS]
QUICK = [Setting("lz4hc", 9, 64 << 10), Setting("zstd", 9, 16 << 10), Setting("zstd", 9, 64 << 10)]

# What is told to mkfs.erofs beside algorithm, level, cluster, workers and time. The first makes the
# same kinds of things as baker's writer does.
EQUAL, PLAIN = ["-Eztailpacking"], []
# What it can do beyond, each once for one setting.
BEYOND = {"its fast lz4": [], "-Efragments": ["-Efragments"],
          "-Eall-fragments,dedupe": ["-Eall-fragments,dedupe"]}
# The makers of every setting, in their turns.
MAKERS = ["baker", "mkfs.erofs", "mkfs.erofs, no tails"]

SAME = """\
- Both: no extended attributes, all times those of the image (so inodes of 32 bytes), compacted
  indexes, Zstandard's window eight clusters long, a checksum of the superblock.
- Both, in the column *mkfs.erofs*: the compressed end of a file lies behind its inode
  (`-Eztailpacking`). *No tails* is mkfs.erofs without that option, as it comes.
- Only baker: the end of a file becomes whole blocks and a tail where that is shorter.
- Only baker: pieces of 4 MiB are packed independently, whatever the number of threads.
- Only mkfs.erofs, and off here: tails of several files packed together (`-Efragments`), equal data of
  several files kept once (`-Ededupe`), the fast LZ4 encoder. What they give is in a table of its own.
"""


def mkerofs():
    """Baker's writer by itself, built from this source."""
    like.run("cargo", "build", "--quiet", "--release", "--example", "mkerofs", "-p", "baker-formats",
             cwd=like.HERE)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(like.HERE, "target"))
    return os.path.join(target, "release", "examples", "mkerofs")


class Field:
    """Programs of the tree of scripts/field-tools, by its own loader."""

    def __init__(self):
        self.tree = os.path.join(like.tools(), "tree")
        loader, = glob.glob(os.path.join(self.tree, "usr", "lib*", "ld-linux-*"))
        libraries, = glob.glob(os.path.join(self.tree, "usr", "lib", "*-linux-gnu"))
        self.loader = [loader, "--library-path", libraries]

    def program(self, name):
        return [*self.loader, os.path.join(self.tree, "usr", "bin", name)]

    def version(self):
        return re.search(r"\d+\.\d+\S*", like.run(*self.program("mkfs.erofs"), "--version"))[0]


class Beside:
    """The writers, a tree, and a folder in memory for their images."""

    def __init__(self, tree, field):
        self.tree, self.field, self.mkerofs = os.path.abspath(tree), field, mkerofs()
        self.expected = describe(tree)
        self.bytes = sum(os.lstat(path).st_size for path in files(tree))
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.folder = tempfile.mkdtemp(dir=memory)

    def close(self):
        shutil.rmtree(self.folder)

    def command(self, by, setting, threads, image, options=()):
        algorithm, level, cluster = setting
        if by == "baker":
            return [self.mkerofs, self.tree, image, algorithm, *map(str, (level, threads, cluster, EPOCH))]
        options = {MAKERS[1]: EQUAL, MAKERS[2]: PLAIN}.get(by, options)
        how = algorithm if level is None else f"{algorithm},level={level}"
        return [*self.field.program("mkfs.erofs"), "--quiet", f"-z{how}", f"-C{cluster}",
                f"--workers={threads}", f"-T{EPOCH}", "--all-time", "-x-1", f"-U{UUID}", *options,
                image, self.tree]

    def once(self, by, setting, threads, options=()):
        """One image: seconds, seconds of CPUs, bytes; and its path."""
        image = os.path.join(self.folder, "image")
        if os.path.exists(image):
            os.remove(image)
        with boot.Others() as others:
            found = timed(self.command(by, setting, threads, image, options), threads)
        return {**found, "bytes": os.path.getsize(image), "others": others.cpus}, image

    def judge(self, image, words):
        """Stops unless the field's fsck.erofs takes the image and unpacks the very tree."""
        to = os.path.join(self.folder, "unpacked")
        shutil.rmtree(to, ignore_errors=True)
        like.run(*self.field.program("fsck.erofs"), f"--extract={to}", image)
        found = describe(to)
        wrong = [path for path in sorted({*found, *self.expected})
                 if found.get(path) != self.expected.get(path)]
        if wrong:
            first = wrong[0]
            raise like.Failed(f"{words}: {len(wrong)} nodes are not those of the tree, the first is "
                              f"{first}: {found.get(first)} instead of {self.expected.get(first)}")
        shutil.rmtree(to)


def timed(command, threads):
    """Runs a command on so many CPUs; the seconds, and those of CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        with open(os.devnull, "r+b") as nothing, tempfile.TemporaryFile() as said:
            began = time.monotonic()
            child = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=said)
            _, status, used = os.wait4(child.pid, 0)
            seconds = time.monotonic() - began
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode != 0:
                said.seek(0)
                raise like.Failed(f"{' '.join(command)}:\n{said.read().decode(errors='replace')}")
    finally:
        os.sched_setaffinity(0, before)
    return {"seconds": round(seconds, 3), "cpu": round(used.ru_utime + used.ru_stime, 3)}


def files(tree):
    for place, _, names in os.walk(tree):
        for path in (os.path.join(place, name) for name in names):
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def describe(tree):
    """What a tree is made of, by path: kind, mode, owner, content, and the first name of hard links."""
    nodes, first = {}, {}
    for place, folders, names in os.walk(tree):
        folders.sort()
        for path in sorted(os.path.join(place, name) for name in [".", *folders, *names]):
            if path.endswith("/.") and place != tree:
                continue
            found, name = os.lstat(path), os.path.relpath(path, tree)
            node = [found.st_mode, found.st_uid, found.st_gid]
            if stat.S_ISREG(found.st_mode):
                with open(path, "rb") as file:
                    node.append(hashlib.file_digest(file, "sha256").hexdigest())
                node.append(first.setdefault(found.st_ino, name))
            elif stat.S_ISLNK(found.st_mode):
                node.append(os.readlink(path))
            elif stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode):
                node.append(found.st_rdev)
            nodes[name] = tuple(node)
    return nodes
