"""A like by mkosi: its configuration, and one build."""
import glob, os

from field.like import CLUSTER, LEVEL, write

NAME = "mkosi"

CONFIGURATION = """\
[Distribution]
Distribution=debian
Release=trixie
LocalMirror=file://{archive}

[Output]
Format=disk
ImageId=like
ManifestFormat=
SplitArtifacts=
RepartDirectories=repart
SectorSize=512

[Content]
Packages={packages}
ExtraTrees=../extra
Bootable=yes
Bootloader=uki
KernelCommandLine={words}
KernelModulesExclude={excluded}
KernelModulesInclude={modules}
KernelModulesInitrdExclude=.*
KernelModulesInitrdInclude={drivers}
WithDocs=no
CleanPackageMetadata=no
SourceDateEpoch={epoch}
FinalizeScripts=finalize

[Build]
Incremental={incremental}
CacheDirectory=cache
PackageCacheDirectory=packages
WorkspaceDirectory=workspace
BuildSources=../strip
WithNetwork=no
Environment=SYSTEMD_REPART_MKFS_OPTIONS_EROFS=-C{cluster}
"""

# An empty machine id and the stamps: no first boot with questions, presets and caches to renew.
FINALIZE = """\
#!/bin/sh -e
: >"$BUILDROOT/etc/machine-id"
touch "$BUILDROOT/etc/.updated" "$BUILDROOT/var/.updated"
exec "$SRCDIR/strip.py" "$BUILDROOT" "$SRCDIR"
"""

PARTITIONS = {
    "00-esp.conf": "Type=esp\nFormat=vfat\nCopyFiles=/boot:/\nCopyFiles=/efi:/\n"
                   "SizeMinBytes=96M\nSizeMaxBytes=96M\n",
    "10-root.conf": "Type=root\nFormat=erofs\nCopyFiles=/\nExcludeFiles=/boot/\nExcludeFiles=/efi/\n"
                    "{excluded}Verity=data\nVerityMatchKey=root\n"
                    "Minimize=best\nCompression=zstd\nCompressionLevel={level}\n",
    "20-verity.conf": "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n",
}


def several(values):
    return "".join(f"\n    {value}" for value in values)


def module(name):
    return f"/{name.replace('_', '[-_]')}\\.ko"


def configure(like, incremental=False):
    """Writes the folder `mkosi` of a like."""
    folder = os.path.join(like.folder, "mkosi")
    drivers = [*like.drivers, "dm_verity", "erofs", "overlay"]
    modules = [line for line in open(os.path.join(like.folder, "strip", "modules")).read().split()]
    write(CONFIGURATION.format(
        archive=like.archive, packages=several(like.asked()), words=several(like.command_line()),
        excluded=".*" if modules else "", modules=several(map(module, modules)),
        drivers=several(map(module, drivers)), epoch=like.epoch(), cluster=CLUSTER,
        incremental="yes" if incremental else "no"), folder, "mkosi.conf")
    excluded = "".join(f"ExcludeFiles={path}\n" for path in like.later_files())
    for name, text in PARTITIONS.items():
        text = text.format(excluded=excluded, level=LEVEL)
        write(f"[Partition]\n{text}", folder, "repart", name)
    script = write(FINALIZE, folder, "finalize")
    os.chmod(script, 0o755)
    for name in ("cache", "packages", "workspace"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    return folder


def build(like, *options):
    """One build; gives the disk."""
    folder = os.path.join(like.folder, "mkosi")
    like.enter("mkosi", "--directory", folder, "--force", *options, "build")
    disk, = glob.glob(os.path.join(folder, "*.raw"))
    return disk
