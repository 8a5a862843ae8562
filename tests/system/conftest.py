from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import ECHO, Daemon, custom  # noqa: E402
from mounted import Mounted  # noqa: E402


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A factory of daemons; all are stopped and looked over at the end. The name is that of its directory."""
    made: list[Daemon] = []

    def make(name: str = "d", type: type[Daemon] = Daemon, **options: Any) -> Daemon:
        made.append(type(tmp_path / name, **options))
        return made[-1]

    yield make
    failure: BaseException | None = None
    for daemon in made:
        try:
            daemon.close()
        except AssertionError as e:
            failure = failure or e
    if failure:
        raise failure


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that runs, without manifests."""
    return make_daemon().start()


@pytest.fixture
def make_mounted(make_daemon: Callable[..., Daemon]) -> Callable[..., Mounted]:
    """The same with a mount."""
    return lambda name="d", **options: make_daemon(name, type=Mounted, **options)


@pytest.fixture
def near() -> Iterator[Path]:
    """A folder that other users can reach. Not so pytest's own: whoever starts a pytest closes them all to others. A test
    asks for it before what makes its daemons."""
    with tempfile.TemporaryDirectory(prefix="near-", dir="/var/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def d(make_mounted: Callable[..., Mounted]) -> Mounted:
    """A daemon that runs with a mount, with the trigger `a` (custom, endpoint `orders`) and the pipeline `p`."""
    d = make_mounted()
    d.write("a.yaml", custom("a", endpoint="orders"), ECHO)
    d.start()
    return d


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test shows what its daemons wrote."""
    report = (yield).get_result()
    if report.failed and "tmp_path" in getattr(item, "funcargs", {}):
        for log in sorted(item.funcargs["tmp_path"].glob("*/triggerd.log")):
            report.sections.append((f"{log.parent.name}/triggerd.log", log.read_text(errors="replace")[-6000:]))
