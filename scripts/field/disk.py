"""What a finished disk holds, whoever made it: sizes and packages."""
import json, struct

from field import like


def mebibytes(size):
    return size / 2**20


def packed(disk, partitions):
    """Bytes of the EROFS in the root partition, by its superblock."""
    offset = next(part["offset"] for part in partitions if part.get("content") == "erofs")
    with open(disk, "rb") as file:
        file.seek(offset + 1024)
        block = file.read(128)
    bits, blocks = block[12], struct.unpack_from("<I", block, 36)[0]
    return blocks << bits


def data(disk):
    """Bytes of all blocks that hold anything."""
    nothing = bytes(4096)
    with open(disk, "rb") as file:
        return sum(len(block) for block in iter(lambda: file.read(4096), b"") if block != nothing)


def describe(disk):
    survey = json.loads(like.baker("--quiet", "--json", "inspect", disk))
    packages = sorted((package["name"], package["version"]) for package in survey["root"]["packages"])
    kernels = [program["size"] for program in survey["programs"] if program["size"] > 5 << 20]
    return packages, {"packages": len(packages), "root": packed(disk, survey["partitions"]),
                      "uki": max(kernels, default=None), "disk": data(disk)}


def must_agree(packages):
    """Stops when the disks do not hold the same packages; by maker, the first one counts."""
    first, *others = packages
    for by in others:
        other = set(packages[by]) ^ set(packages[first])
        if other:
            raise like.Failed(f"{by} made another package set than {first}: {sorted(other)}")
