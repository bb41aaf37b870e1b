"""Checks of this machine: Python, the processor, threads, memory, shared memory and disk."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.checks.finding import Finding, fail, ok, warn

PYTHONS = ((3, 10), (3, 13))
GIB = 2**30
_ACTOR_GIB = 1.5  # of one cascade with its Ray worker, measured at 0.9, and its chunk
_WORTH = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
_STORE_GIB = 0.5  # of Ray's object store below which it spills to disk


@dataclass(frozen=True, slots=True)
class Machine:
    """Where this machine's facts are read; a test gives its own."""

    python: tuple[int, ...] = field(default_factory=lambda: tuple(sys.version_info[:3]))
    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    shm: Path = Path("/dev/shm")  # noqa: S108 (looked at, never written)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def flags(self) -> set[str]:
        """What the processor can do, in the kernel's words; empty where it does not tell."""
        file = self.proc / "cpuinfo"
        lines = file.read_text().splitlines() if file.is_file() else []
        line = next((one for one in lines if one.startswith(("flags", "Features"))), "")
        return set(line.partition(":")[2].split())

    def available(self) -> int | None:
        """Bytes of memory that can be had, within the container's limit."""
        file = self.proc / "meminfo"
        lines = file.read_text().splitlines() if file.is_file() else []
        free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        limit = self.cgroup / "memory.max"
        if limit.is_file() and (said := limit.read_text().strip()).isdigit():
            free.append(int(said))
        return min(free, default=None)

    def cores(self) -> float:
        """Cores this process may use, within the container's quota."""
        here = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 0.0
        here = here or float(os.cpu_count() or 1)
        file = self.cgroup / "cpu.max"
        said = file.read_text().split() if file.is_file() else []
        return min(here, int(said[0]) / int(said[1])) if said and said[0].isdigit() else here


def findings(
    machine: Machine, *, root: Path, cores: int, actors: int, disk_gib: float
) -> Iterator[Finding]:
    """Every check of this machine for a run on `cores` cores that writes below `root`."""
    yield python(machine)
    yield processor(machine)
    yield threads(machine, cores)
    yield memory(machine, actors)
    yield shared_memory(machine)
    yield disk(root, disk_gib)


def python(machine: Machine) -> Finding:
    """Whether this Python is one that is tried."""
    name = ".".join(map(str, machine.python))
    low, high = PYTHONS
    if not low <= machine.python[:2] <= high:
        wanted = f"{low[0]}.{low[1]} to {high[0]}.{high[1]}"
        return fail("python", f"{name}, {wanted} expected", "make a venv of another Python")
    return ok("python", f"{name} on {platform.system()} {platform.machine()}")


def processor(machine: Machine) -> Finding:
    """What the processor has for 8-bit arithmetic, and the quantisation to choose by it."""
    flags = machine.flags()
    if not flags or "asimd" in flags:  # arm64, and systems that do not say
        return ok("processor", f"{platform.machine()}; quantisation=int8")
    has = [
        name for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if name in flags
    ]
    if "avx2" not in flags:
        return fail(
            "processor",
            "no AVX2: int8 students run many times slower here",
            "use another machine, or publish with quantisation=float32",
        )
    if {"avx512_vnni", "avx_vnni", "amx_int8"} & flags:
        return ok("processor", f"{' '.join(has)}; quantisation=int8")
    return ok(
        "processor", f"{' '.join(has)}, no VNNI; quantisation=int8, or int8_float32 if unsure"
    )


def threads(machine: Machine, cores: int) -> Finding:
    """Whether there are the cores that the run asks for."""
    have = machine.cores()
    if have + 1e-9 < cores:
        return fail(
            "threads",
            f"{have:g} cores here, the run asks for {cores}",
            f"set scale.actors={max(1, int(have))} scale.threads=1, or give the container more",
        )
    return ok("threads", f"{have:g} cores; scale.actors x scale.threads = {cores}")


def memory(machine: Machine, actors: int) -> Finding:
    """Whether a run of so many actors fits into memory."""
    free = machine.available()
    if free is None:
        return warn("memory", "cannot be told here", f"have {_ACTOR_GIB} GiB for each actor")
    wanted = (1 + _ACTOR_GIB * actors) * GIB
    if free < wanted:
        return fail(
            "memory",
            f"{free / GIB:.1f} GiB available, {wanted / GIB:.1f} wanted",
            "close other programs, lower scale.actors, or raise the container's limit",
        )
    return ok("memory", f"{free / GIB:.1f} GiB available")


def shared_memory(machine: Machine) -> Finding:
    """Whether Ray's object store fits into shared memory."""
    if not machine.shm.is_dir():
        return ok("shm", "no /dev/shm on this system: Ray uses its folder for objects")
    size = _total(machine, machine.shm)
    if size < _STORE_GIB * GIB:
        return fail(
            "shm",
            f"{size / 2**20:.0f} MiB in {machine.shm}: Ray's objects go to disk, many times slower",
            "start the container with --shm-size=2g (Kubernetes: an emptyDir of medium Memory)",
        )
    return ok("shm", f"{size / GIB:.1f} GiB in {machine.shm}")


def _total(machine: Machine, folder: Path) -> int:
    """Bytes of the file system of `folder`; a file `size` in it stands for them in a test."""
    said = folder / "size"
    return int(said.read_text()) if said.is_file() else shutil.disk_usage(folder).total


def disk(root: Path, wanted_gib: float) -> Finding:
    """Whether `root` can be written and has room."""
    place = next(one for one in (root.absolute(), *root.absolute().parents) if one.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        return fail("disk", f"{place} cannot be written", "set root= to a folder of your own")
    free = shutil.disk_usage(place).free / GIB
    if free < wanted_gib:
        return fail(
            "disk",
            f"{free:.1f} GiB free at {place}, {wanted_gib:g} wanted",
            "free some, set root= to a larger disk, or lower disk_gib",
        )
    return ok("disk", f"{free:.0f} GiB free at {place}")
