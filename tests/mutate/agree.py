#!/usr/bin/env python3
"""Validation and schemas/manifest.json say the same of manifests with mistakes (mutate.c), whoever looks.

    agree.py [--build DIR] [--seed N] [--count N] [--schema FILE]

What the schema refuses must be refused. What validation refuses the schema refuses too, but for what JSON Schema cannot
say: the rules in CANNOT_SAY, each an error by its field and its words. Needs fastjsonschema (tests/install-deps.sh makes
build/venv with it). Exit 1 at any difference, the first ones printed.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import fastjsonschema

ROOT = Path(__file__).resolve().parents[2]
MAPPING = r"(config\.)?(input_mapping|output_mapping)\..*"
STEP = r"steps\[\d+\]"

# (what it is, field, message): both are matched as a whole. An error that none of them takes is one that the schema
# has to find.
CANNOT_SAY = [(what, re.compile(field, re.DOTALL), re.compile(message, re.DOTALL)) for what, field, message in (
    ("paths", rf"{MAPPING}|concurrency_key|{STEP}\.if|outputs\..*", r"not a (key or )?path: .*"),
    ("templates", rf"{STEP}\.(exec|emit|http|publish|worker|mcp)\..*",
     r".* \(at character \d+\)|`\{\{.*|a worker is started once for many runs: .*"),
    ("references to secrets", rf"(config|default_inputs|{STEP}\.(exec|emit|http|publish|worker))\..*", r"`\$\{.*"),
    ("settings of librdkafka", rf"(config|{STEP}\.publish)\.options\..*", r"(?!expected a string, a number).*"),
    ("globs", r"config\.path", r"(?!expected (an absolute path|segments)).*"),
    ("globs", r"config\.(ignore_patterns|source_pipeline_id)(\[\d+\])?", r"not a glob: .*"),
    ("cron", r"config\.cron", r"not a cron expression: .*"),
    ("time zones", r"config\.timezone", r"(?!expected a string).*"),
    ("bounds of event patterns", r"config\.filter.*", r"expected (at most \d+ (bytes|paths|entries).*|a key of at most .*|"
     r"a path of at most .*|objects at most .*)|the alternatives of \$or multiply out .*|a wildcard costs too much: .*"),
    ("numeric bounds", r"config\.filter.*\.numeric", r"expected a lower bound less than the upper one, got .*"),
    ("addresses", r"config\.filter.*\.cidr", r"expected (a block such as|a length of at most) .*"),
    ("regular expressions", r"inputs.*\.pattern", r"no regular expression: .*|back references .*|a pattern has at most .*"),
    ("digits of multipleOf", r"inputs.*\.multipleOf", r"expected a number of at most \d+ digits"),
    ("numbers too small for a double", r".*", r"expected an integer .*, got -?[0-9.]+[eE]-[0-9]{3,}"),
    ("URLs of brokers", rf"(config|{STEP}\.publish)\.(connection_url|endpoint_url)",
     r"(?!expected ([a-z+]+://|a string|at (least|most))|required).*"),
    ("a prefetch for batches", r"config\.prefetch", r"must be at least batch_size .*"),
    ("ids twice", rf"{STEP}\.id", r'"[a-z0-9_.-]+" is also the id of steps\[\d+\]'),
    ("ids twice", r"id", r'(trigger|pipeline) ".*" is already defined at line \d+'),
    ("needs", rf"{STEP}\.needs(\[\d+\])?", r'there is no step ".*"|steps need each other in a circle: .*'),
    ("steps that paths name", rf"outputs\..*|{STEP}\.(if|exec|emit|http|publish)", r'.*: there is no step ".*"'),
)]


def excuse(field: str, message: str) -> str | None:
    return next((what for what, f, m in CANNOT_SAY if f.fullmatch(field) and m.fullmatch(message)), None)


def build_dir() -> Path:
    return Path(os.environ.get("TRIGGERD_BUILD", ROOT / "build" / "asan"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=build_dir())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--schema", type=Path, default=ROOT / "schemas" / "manifest.json")
    options = parser.parse_args()
    validate = fastjsonschema.compile(json.loads(options.schema.read_text()), use_default=False)

    seeds = [*sorted((ROOT / "tests" / "mutate" / "seeds").iterdir()), *sorted((ROOT / "examples").glob("*/*.yaml"))]
    command = [options.build / "tests" / "mutate", "--emit", "--seed", str(options.seed), "--count", str(options.count)]
    excused: Counter[str] = Counter()
    said: Counter[str] = Counter()
    differences: list[str] = []
    with subprocess.Popen([*command, *seeds], stdout=subprocess.PIPE) as mutate:
        assert mutate.stdout
        for line in mutate.stdout:
            case: dict[str, Any] = json.loads(line)
            refused: str | None = None
            try:
                validate(case["document"])
            except fastjsonschema.JsonSchemaValueException as e:
                refused = e.message
            errors = [tuple(e) for e in case["errors"]]
            excuses = [excuse(*e) for e in errors]
            said["refused" if errors else "valid"] += 1
            if refused and not errors:
                differences.append(f"case {case['case']}: the schema alone refuses: {refused}")
            if not refused and errors:
                excused.update(e for e in excuses if e)
                missed = [e for e, why in zip(errors, excuses) if not why]
                if missed:
                    differences.append(f"case {case['case']}: the schema accepts: {': '.join(missed[0])}")
    for difference in differences[:20]:
        print(difference)
    print(f"{sum(said.values())} documents that parse: {said['valid']} valid, {said['refused']} refused, "
          f"{len(differences)} differences; beyond the schema: "
          + ", ".join(f"{what} {n}" for what, n in excused.most_common()))
    return 1 if differences or mutate.returncode or not said["valid"] or not said["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
