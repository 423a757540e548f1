#!/usr/bin/python3
"""Takes out of a root what the image that it is the like of does not have: strip.py ROOT FOLDER [--now]

Runs inside the tree of scripts/field-tools, as the last step of the other tools' own builds. They
cannot install without the essential packages and the dependencies of scripts; an image of baker has
neither. FOLDER holds `packages` (names that stay, one in a line), `later` (names whose files stay,
for steps after this one, unless --now), `exclude` (globs of the recipe) and `modules` (names of kernel modules
that stay; an empty file keeps all).
"""
import os, re, subprocess, sys


def lines(*path):
    with open(os.path.join(*path)) as file:
        return [line for line in file.read().splitlines() if line]


def real(root, path):
    """The path with links in its folder resolved: packages may say /bin/x for /usr/bin/x."""
    folder, name = os.path.split(root + path)
    return os.path.join(os.path.realpath(folder), name)


def package_of(listing):
    return listing.removesuffix(".list").partition(":")[0]


def strip_packages(root, keep, later):
    info = os.path.join(root, "var/lib/dpkg/info")
    stays, goes = set(), set()
    for listing in filter(lambda name: name.endswith(".list"), os.listdir(info)):
        name = package_of(listing)
        (stays if name in keep or name in later else goes).update(real(root, path) for path in lines(info, listing))
    for path in sorted(goes - stays, reverse=True):
        if os.path.islink(path) or os.path.isfile(path):
            os.remove(path)
        elif os.path.isdir(path) and not os.listdir(path):
            os.rmdir(path)
    forget(root, info, keep)


def forget(root, info, keep):
    """Leaves a package database that knows the kept packages only."""
    for name in os.listdir(info):
        package = name.rpartition(".")[0].partition(":")[0]
        if name != "format" and package not in keep:
            os.remove(os.path.join(info, name))
    status = os.path.join(root, "var/lib/dpkg/status")
    with open(status) as file:
        stanzas = file.read().split("\n\n")
    named = ((re.search(r"^Package: (\S+)", text, re.M), text) for text in stanzas)
    with open(status, "w") as file:
        file.writelines(text.rstrip("\n") + "\n\n" for match, text in named if match and match[1] in keep)


def pattern(glob):
    """A regular expression of a glob of recipes: `*`, `**`, `?`, `[a-z]`, `{a,b}`."""
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    parts = re.split(r"(\*\*|\*|\?|\[[^]]*\]|[{},])", glob)
    return "".join(part if part.startswith("[") else words.get(part) or re.escape(part)
                   for part in parts)


def strip_globs(root, globs):
    wanted = re.compile("|".join(map(pattern, globs)) or "(?!)")
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files + folders:
            path = os.path.join(folder, name)
            if wanted.fullmatch(path[len(root):]):
                remove(path)


def remove(path):
    if os.path.islink(path) or not os.path.isdir(path):
        os.remove(path)
    elif not os.listdir(path):
        os.rmdir(path)


def strip_modules(root, keep):
    modules = os.path.join(root, "usr/lib/modules")
    for release in os.listdir(modules) if keep and os.path.isdir(modules) else ():
        for folder, _, files in os.walk(os.path.join(modules, release, "kernel"), topdown=False):
            for name in files:
                if name.partition(".ko")[0].replace("-", "_") not in keep:
                    os.remove(os.path.join(folder, name))
            remove(folder) if not os.listdir(folder) else None
        subprocess.run(["depmod", "-b", os.path.join(root, "usr"), release], check=True)


def main():
    root, folder = sys.argv[1].rstrip("/"), sys.argv[2]
    kernels = {name for name in lines(folder, "later") if name.startswith("linux-image-")}
    later = kernels if "--now" in sys.argv else set(lines(folder, "later"))
    strip_packages(root, set(lines(folder, "packages")), later)
    strip_modules(root, set(lines(folder, "modules")))
    strip_globs(root, lines(folder, "exclude"))
    for path in ("var/lib/apt", "var/cache", "var/log", "var/lib/dpkg/status-old"):
        subprocess.run(["rm", "-rf", os.path.join(root, path)], check=True)
    for path in ("var/cache", "var/log"):
        os.makedirs(os.path.join(root, path), exist_ok=True)


main()
