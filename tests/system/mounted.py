"""A daemon with its mount, for the tests of the FUSE view."""
from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, Daemon, delayed

needs_fuse = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse here")


class Mounted(Daemon):
    """A daemon with a mount at `m`."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(root, **options)
        self.m = self.root / "mount"
        self.m.mkdir(exist_ok=True)
        self.args += ["--mount", str(self.m)]

    def close(self) -> None:
        try:
            super().close()
        finally:
            while subprocess.run(["umount", "-l", str(self.m)], capture_output=True).returncode == 0:
                pass

    def sh(self, text: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """A shell in the mount."""
        return subprocess.run(["bash", "-c", text], cwd=self.m, capture_output=True, text=True, timeout=timeout)

    def ok(self, text: str, timeout: float = PATIENCE) -> str:
        done = self.sh(text, timeout)
        assert done.returncode == 0, f"{text}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


def wedged_reads(pid: int) -> AbstractContextManager[None]:
    """Reads of the disk do not come back meanwhile."""
    return delayed(pid, "pread64", "60s")


def wedged_syncs(pid: int) -> AbstractContextManager[None]:
    """What is written does not get to the disk meanwhile."""
    return delayed(pid, "fsync,fdatasync", "100s")


def ask(path: Path, text: str, size: int = 65536) -> str:
    """Write, and read the answer on the same descriptor."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.write(fd, text.encode())
        answer = b""
        while piece := os.read(fd, size):
            answer += piece
        return answer.decode()
    finally:
        os.close(fd)


def fails(code: int, path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        with pytest.raises(OSError) as e:
            os.write(fd, text.encode())
        assert e.value.errno == code
    finally:
        with suppress(OSError):
            os.close(fd)
