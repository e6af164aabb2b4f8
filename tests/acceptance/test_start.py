"""How a node starts: the receivers first, each role a fork of the supervisor."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.errors import ExitCode
from tests.acceptance.harness import Node, role_of
from tests.builders.waiting import wait_until

ROLES = ["receive-1", "receive-2", "audit", "analyse", "deliver", "keep", "web"]


def events(node: Node) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.log.read_text().splitlines()]


def started(node: Node) -> list[str]:
    return [line["role"] for line in events(node) if line["event"] == "role_started"]


def sockets(pid: int) -> set[str]:
    """Return which sockets a process has open."""
    links = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir() if file.exists()}
    return {link for link in links if link.startswith("socket:")}


def test_a_node_starts_its_receivers_first_and_a_role_that_dies_again(tmp_path: Path) -> None:
    with Node(tmp_path, destinations={}, receive="processes = 2") as node:
        assert node.process is not None
        supervisor = node.process.pid
        wait_until("every role", lambda: len(started(node)) == len(ROLES))
        assert started(node) == ROLES
        names = {role_of(child): child for child in node.children()}
        assert sorted(names) == sorted(ROLES)
        assert len(list(Path(f"/proc/{supervisor}/task").iterdir())) == 1, "it forks"

        listener = set.intersection(*(sockets(names[name].pid) for name in ROLES[:2]))
        assert len(listener) == 1, "what the receivers share"
        others = set().union(*(sockets(names[name].pid) for name in ROLES[2:]))
        assert not listener & others

        os.kill(names["keep"].pid, signal.SIGKILL)
        wait_until("another one", lambda: started(node)[len(ROLES) :] == ["keep"])
        (keep,) = node.children("keep")
        assert keep.pid != names["keep"].pid
        assert psutil.Process(names["receive-1"].pid).is_running()
    (died,) = [line for line in events(node) if line["event"] == "role_died"]
    assert (died["role"], died["code"]) == ("keep", -signal.SIGKILL)


def test_a_bundle_that_cannot_be_used_ends_the_node_with_what_is_wrong(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(default_bundle(), bundle)
    weights = bytearray((bundle / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (bundle / "weights.safetensors").write_bytes(weights)
    node = Node(tmp_path / "node", destinations={}, extra=f'[model]\nbundle = "{bundle}"')
    command = [sys.executable, "-m", "dicom_ai_node", "serve", "-c", str(node.path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == ExitCode.NO
    assert f"error: {bundle}" in ended.stderr
    assert '"role": "analyse"' not in ended.stderr, "it was not started"
    assert '"role": "receive-1", "code": 0' in ended.stderr, "it has finished in order"
