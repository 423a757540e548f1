"""A like by mmdebstrap and the tools for file systems, verity, kernels and partitions."""
import os, shlex, shutil

from field.like import CLUSTER, HERE, LEVEL, VERITY, write


NAME = "mmdebstrap"


def configure(like):
    """Writes what field/mmdebstrap.sh reads."""
    settings = {
        "packages": ",".join([*like.asked(), "dracut", "systemd-cryptsetup", "cryptsetup-bin"]),
        "words": " ".join(like.command_line()),
        "drivers": " ".join([*like.drivers, *VERITY]),
        "release": like.release(), "epoch": like.epoch(), "level": LEVEL, "cluster": CLUSTER,
    }
    write("".join(f"{name}={shlex.quote(str(value))}\n" for name, value in settings.items()),
          like.folder, "settings")
    shutil.copy(os.path.join(HERE, "scripts", "field", "mmdebstrap.sh"), like.folder)


def build(like):
    """One build; gives the disk."""
    like.enter(os.path.join(like.folder, "mmdebstrap.sh"), like.folder)
    return os.path.join(like.folder, "mmdebstrap", "like.raw")
