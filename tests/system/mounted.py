"""A daemon with its mount, for the tests of the FUSE view."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, wait_for

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

    def sh(self, text: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """A shell in the mount."""
        return subprocess.run(["bash", "-c", text], cwd=self.m, capture_output=True, text=True, timeout=timeout)

    def ok(self, text: str, timeout: float = 20) -> str:
        done = self.sh(text, timeout)
        assert done.returncode == 0, f"{text}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def wedged_reads(pid: int) -> Iterator[None]:
    """Reads of the disk do not come back meanwhile."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", "trace=pread64", "-e",
                               "inject=pread64:delay_enter=60s"], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: tracer.poll() is not None or all(
            "TracerPid:\t0\n" not in Path(f"/proc/{pid}/task/{t}/status").read_text()
            for t in os.listdir(f"/proc/{pid}/task")), what="traced")
        if tracer.poll() is not None:
            pytest.skip(f"strace: {tracer.communicate()[1]}")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


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
