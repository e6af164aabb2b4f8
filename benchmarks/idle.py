"""What a node costs at rest: processor and memory of each process, at 0, 16 and 128 associations.

    python -m benchmarks.idle [--seconds 30]

Starts a node of its own on loopback, opens associations on which nothing happens, and reads
/proc: processor time is exact on a busy machine too, the share of a core is of this much wall time.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import psutil

from tests.acceptance.harness import Node
from tests.builders.receiving import RawPeer

_COUNTS = (0, 16, 128)
_EXTRA = """\
[[receive.callers]]
ae_title = "TEST"
[[receive.callers]]
ae_title = "RAW"
"""


def processes(node: Node) -> dict[str, psutil.Process]:
    """Return the processes of the group by the name of their role."""
    assert node.process is not None
    found = {"serve": psutil.Process(node.process.pid)}
    for child in found["serve"].children(recursive=True):
        words = child.cmdline()
        role = words[words.index("role") + 1] if "role" in words else words[0]
        number = words[-1] if "--number" in words else ""
        found[f"{role}{number}"] = child
    return found


def processor_seconds(group: dict[str, psutil.Process]) -> dict[str, float]:
    return {
        name: one.cpu_times().user + one.cpu_times().system for name, one in sorted(group.items())
    }


def memory(group: dict[str, psutil.Process]) -> dict[str, tuple[int, int, int]]:
    """Return RSS, PSS and USS of each process in MB."""
    found = {}
    for name, one in sorted(group.items()):
        full = one.memory_full_info()
        found[name] = (full.rss // 2**20, full.pss // 2**20, full.uss // 2**20)
    return found


def measure(seconds: float, settle: float) -> dict[str, object]:
    """Run one node and return its shares of a core at each count, and its memory at rest."""
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        extra = "max_associations = 200\nmax_associations_per_address = 200\n" + _EXTRA
        node = Node(Path(folder), destinations={}, receive=extra)
        with node:
            time.sleep(settle)
            group = processes(node)
            result["memory_mb"] = memory(group)
            for count in _COUNTS:
                peers = [RawPeer(node.port) for _ in range(count)]
                for peer in peers:
                    peer.associate()
                time.sleep(2)
                before, began = processor_seconds(group), time.monotonic()
                time.sleep(seconds)
                after, wall = processor_seconds(group), time.monotonic() - began
                result[f"percent_of_a_core_at_{count}"] = {
                    name: round(100 * (after[name] - before[name]) / wall, 2) for name in after
                }
                for peer in peers:
                    peer.socket.close()
                time.sleep(2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--settle", type=float, default=20.0)
    arguments = parser.parse_args()
    found = measure(arguments.seconds, arguments.settle)
    for name, values in found.items():
        print(name)
        for process, value in dict(values).items():  # type: ignore[call-overload]
            print(f"  {process:<12}{value}")
        if name != "memory_mb":
            print(f"  {'all':<12}{round(sum(values.values()), 2)}")  # type: ignore[attr-defined]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
