#!/usr/bin/python3
"""Runs in a guest: what reads of one large file of the root cost when nothing of it is in memory.

Prints a line per repeat: `BENCH random` with median, 90th percentile and mean of microseconds for
4 KiB at random places, `BENCH sequential` with the microseconds for 16 MiB; then `BENCH end`. Uses no
module but those that are part of the interpreter: the guest has hardly any others.
"""
import os, time

DATA = "/usr/share/bench/data"
REPEATS, PLACES, PAGE, STRETCH, PIECE = 3, 400, 4096, 16 << 20, 128 << 10


def forget(what="3"):
    """Drops what the kernel keeps of files, packed or not, and of the hash tree."""
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write(what)


def timed(file, offset, length, piece):
    began = time.perf_counter_ns()
    for at in range(offset, offset + length, piece):
        os.pread(file, piece, at)
    return (time.perf_counter_ns() - began) // 1000


def places(pages, seed):
    """Pages in an order that chance gave once for all (Knuth's constants)."""
    for _ in range(PLACES):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (seed >> 33) % pages * PAGE


def main():
    # What systemd starts behind the target is done by then.
    time.sleep(3)
    # Drops nothing, but is the last time that the kernel says so on the console.
    forget("4")
    file = os.open(DATA, os.O_RDONLY)
    size = os.fstat(file).st_size
    timed(file, 0, PAGE, PAGE)
    for repeat in range(REPEATS):
        took = []
        for offset in places(size // PAGE, repeat):
            forget()
            took.append(timed(file, offset, PAGE, PAGE))
        took.sort()
        print("BENCH random", took[PLACES // 2], took[PLACES * 9 // 10], sum(took) // PLACES, flush=True)
        forget()
        print("BENCH sequential", timed(file, 0, STRETCH, PIECE), flush=True)
    print("BENCH end", flush=True)


main()
