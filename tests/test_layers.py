"""The tree's rules that no compiler knows: who may include whom, and how long a file may be."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Lowest first; a folder includes itself and lower ones, folders of one row not each other.
ORDER = [{"base"}, {"model"}, {"lang"}, {"store"}, {"spawn"}, {"engine"}, {"client"}, {"source", "step"}, {"manifest"},
         {"reconcile"}, {"api"}, {"http", "fs"}]
LEVEL = {layer: level for level, row in enumerate(ORDER) for layer in row}
# triggerctl is a program of its own: it has the languages and the manifest reader, and speaks with MCP servers itself.
CTL = {"base", "model", "lang", "spawn", "client", "manifest", "ctl"}
LINES_MAX = 800
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)


def sources() -> list[Path]:
    return sorted(p for folder in ("src", "fs") for p in (ROOT / folder).rglob("*.[ch]"))


def layer_of(path: Path) -> str:
    """`main` for the files beside src/main.c, which belong to it, else the folder that stands for the layer."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "fs":
        return "fs"
    return parts[1] if len(parts) > 2 else "main"


def complaint(source: str, target: str) -> str | None:
    """Why a file of layer `source` must not include "target"."""
    if "/" not in target:
        return None if source == "main" else "write it as folder/file.h"
    folder = target.split("/")[0]
    if source == "ctl":
        return None if folder in CTL else f"ctl includes {', '.join(sorted(CTL))} only"
    if source == "main":
        return None if folder in LEVEL else "no layer"
    if folder not in LEVEL:
        return "no layer"
    if folder == source or LEVEL[folder] < LEVEL[source]:
        return None
    return f"{folder} is not below {source}"


def test_includes_point_downwards() -> None:
    wrong = []
    for path in sources():
        source = layer_of(path)
        if source != "main" and source != "ctl" and source not in LEVEL:
            wrong.append(f"{path.relative_to(ROOT)}: a folder that is no layer")
            continue
        for match in INCLUDE.finditer(path.read_text()):
            why = complaint(source, match[1])
            if why:
                line = path.read_text().count("\n", 0, match.start()) + 1
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {match[1]}: {why}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("source, target, allowed", [
    ("base", "base/error.h", True), ("base", "model/value.h", False), ("engine", "store/store.h", True),
    ("source", "step/exec.h", False), ("step", "source/list.h", False), ("http", "fs/mount.h", False),
    ("http", "api/ops.h", True), ("main", "http/server.h", True), ("ctl", "manifest/yaml.h", True),
    ("ctl", "engine/engine.h", False), ("api", "ops.h", False), ("engine", "ctl/main.h", False)])
def test_the_rule_itself(source: str, target: str, allowed: bool) -> None:
    assert (complaint(source, target) is None) == allowed


def test_files_are_one_thing() -> None:
    long = {p: p.read_text().count("\n") for p in sources()}
    wrong = [f"{p.relative_to(ROOT)}: {n} lines, at most {LINES_MAX}" for p, n in long.items() if n > LINES_MAX]
    assert not wrong, "\n".join(wrong)
