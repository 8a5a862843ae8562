"""schemas/*.json: what editors and check-jsonschema make of them, and that they agree with validation.

What both need is in build/venv, which tests/install-deps.sh makes."""
from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, build_dir

VENV = ROOT / "build" / "venv" / "bin"
SCHEMAS = ROOT / "schemas"
SEEDS = sorted([*(ROOT / "examples").glob("*/*.yaml"), *(ROOT / "tests" / "mutate" / "seeds").iterdir()])

pytestmark = pytest.mark.skipif(not (VENV.parent / "installed-3").exists(), reason="no build/venv: see tests/install-deps.sh")


def check(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([VENV / "check-jsonschema", *args], capture_output=True, text=True, timeout=60)


def apart(path: Path, to: Path) -> list[Path]:
    """The documents of a file, one file each: check-jsonschema reads one document a file."""
    to.mkdir(parents=True)
    made = []
    for i, text in enumerate(re.split(r"^---$", path.read_text(), flags=re.MULTILINE)):
        if re.search(r"^\s*[^#\s]", text, re.MULTILINE):
            made.append(to / f"{i}.yaml")
            made[-1].write_text(text)
    return made


def test_they_are_schemas() -> None:
    names = {p.stem for p in SCHEMAS.iterdir()}
    assert names == {"manifest", "trigger", "pipeline", "mcp_server"}
    done = check("--check-metaschema", *(SCHEMAS / f"{n}.json" for n in sorted(names)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_take_what_is_valid(tmp_path: Path) -> None:
    files: dict[str, list[Path]] = {"trigger": [], "pipeline": [], "mcp_server": []}
    for i, path in enumerate(SEEDS):
        for file in apart(path, tmp_path / str(i)):
            said = re.search(r"^kind: (\w+)$", file.read_text(), re.MULTILINE)
            files[said[1] if said else "trigger"].append(file)
    assert len(files["trigger"]) > 5 and len(files["pipeline"]) > 5 and files["mcp_server"], files
    done = check("--schemafile", SCHEMAS / "manifest.json", *(f for of_kind in files.values() for f in of_kind))
    assert done.returncode == 0, done.stdout + done.stderr
    for kind, of_kind in files.items():
        done = check("--schemafile", SCHEMAS / f"{kind}.json", *of_kind)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text, said", [
    ("name: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: a b}\n", "does not match"),
    ("name: t\npipeline_id: p\ntrigger_type: schedule\nconfig: {}\n", "'cron' is a required property"),
    ("name: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\nenabeld: true\n", "'enabeld'"),
    ("kind: pipeline\nid: p\nsteps: [{id: a, exec: {command: []}}]\n", "[]"),
    ("kind: piplne\nid: p\n", "'trigger' was expected"),
])
def test_they_refuse_what_is_not(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    done = check("--schemafile", SCHEMAS / "manifest.json", "-v", tmp_path / "m.yaml")
    assert done.returncode == 1 and said in done.stdout, done.stdout


def agree(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([VENV / "python", ROOT / "tests" / "mutate" / "agree.py", *args], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "TRIGGERD_BUILD": str(build_dir())})


def test_validation_and_schema_agree() -> None:
    done = agree("--count", "3000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 differences" in done.stdout


@pytest.mark.parametrize(("kind", "change"), [
    *itertools.product(("trigger", "pipeline"), ('{"additionalProperties": true}', '{"required": []}')),
    ("mcp_server", '{"additionalProperties": true}'),
])
def test_agree_can_fail(tmp_path: Path, kind: str, change: str) -> None:
    """With a schema that says less of one kind."""
    schema = json.loads((SCHEMAS / "manifest.json").read_text())
    of_kind = {"pipeline": schema["then"], "mcp_server": schema["else"]["then"], "trigger": schema["else"]["else"]}[kind]
    assert "properties" in of_kind
    of_kind.update(json.loads(change))
    (tmp_path / "less.json").write_text(json.dumps(schema))
    done = agree("--count", "3000", "--schema", str(tmp_path / "less.json"))
    assert done.returncode == 1 and "the schema accepts" in done.stdout, done.stdout
