"""What is installed beside the programs says only what there is. (tests/package/run.sh builds and installs the package.)"""
from __future__ import annotations

import json
import re
import subprocess

from harness import ROOT, Daemon, build_dir, custom, pipeline, script

PACKAGE = ROOT / "src" / "package"


def test_metrics_of_rules_and_dashboard_exist(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("true")), custom("t"))
    daemon.wait_event(daemon.emit1("t")["id"])
    told = set(re.findall(r"^# TYPE (\S+)", daemon.http("GET", "/metrics").body.decode(), re.M))
    texts = (PACKAGE / "grafana-dashboard.json").read_text() + (PACKAGE / "prometheus-rules.yml").read_text()
    used = set(re.findall(r"\b((?:triggerd|process)_[a-z_]+)[{[\\ )]", texts)) - {"triggerd_source_lag"}  # only with a broker
    assert used and {re.sub(r"_bucket$", "", name) for name in used} <= told


def test_the_dashboard_is_well_formed() -> None:
    board = json.loads((PACKAGE / "grafana-dashboard.json").read_text())
    panels = board["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    for a in panels:  # none lies over another
        for b in panels:
            if a["id"] < b["id"]:
                (p, q) = (a["gridPos"], b["gridPos"])
                assert (p["x"] + p["w"] <= q["x"] or q["x"] + q["w"] <= p["x"] or p["y"] + p["h"] <= q["y"]
                        or q["y"] + q["h"] <= p["y"]), (a["title"], b["title"])


def test_units_start_what_there_is() -> None:
    told = subprocess.run([build_dir() / "triggerd", "--help"], capture_output=True, text=True, check=True).stdout
    for unit in ("triggerd", "triggerd-mount"):
        text = (PACKAGE / f"{unit}.service").read_text()
        for option in re.findall(r" (--[a-z-]+)", re.findall(r"^ExecStart=(.*)$", text, re.M)[0]):
            assert option in told
    settings = re.findall(r"^f +\S+ .* - +(.*)$", (PACKAGE / "tmpfiles.conf").read_text(), re.M)[0].replace("\\n", "\n")
    assert "manifests: [/etc/triggerd/manifests]" in settings


def test_hooks_for_git(daemon: Daemon) -> None:
    """The hook's command on a file that is wrong, as pre-commit calls it, and the action's."""
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    entry = re.findall(r"entry: triggerctl (.*)", hook)[0].split()
    wrong = daemon.root / "wrong.yaml"
    wrong.write_text("kind: pipeline\nid: p\nsteps: []\nsteppes: 1\n")
    done = daemon.ctl(*entry, wrong)
    assert done.returncode == 1 and f"{wrong}:4:1:" in done.stdout
    done = daemon.ctl("validate", "-o", "github", "--", wrong)
    assert done.returncode == 1 and done.stdout.startswith("::error file=")
