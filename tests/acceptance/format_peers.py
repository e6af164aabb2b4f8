"""A node of the version under comparison, what it is sent, and the PACS that it sends to."""

import json
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import AllStoragePresentationContexts

from tests.builders.processes import running
from tests.builders.waiting import listens, wait_until

REFUSED = "F-refuse"
"""The PatientID of the study whose objects the PACS refuses once."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Pacs:
    """Stores what comes to any AE title, in the order in which it comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.refused: set[str] = set()
        ae = AE("PACS")
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context("1.2.840.10008.1.1")
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _store(self, event: Any) -> int:
        called = str(event.assoc.requestor.primitive.called_ae_title).strip()
        dataset = event.dataset
        again = dataset.SOPInstanceUID in self.refused
        if dataset.get("PatientID") == REFUSED and not again:
            self.refused.add(dataset.SOPInstanceUID)
            return 0x0110
        dataset.file_meta = event.file_meta
        folder = self.folder / called
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / f"{number:03d}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    def close(self) -> None:
        self.server.shutdown()


def send(port: int, dataset: Dataset, transfer: str = "") -> int | None:
    """Send one image as a modality does and return the status, None without an answer."""
    ae = AE("MODALITY")
    syntax = transfer or dataset.file_meta.TransferSyntaxUID
    contexts = [build_context(dataset.SOPClassUID, syntax)]
    association = ae.associate("127.0.0.1", port, contexts, ae_title="DICOMAINODE")
    if not association.is_established:
        return None
    answer = association.send_c_store(dataset)
    association.release()
    return int(answer.Status) if "Status" in answer else None


def configuration(folder: Path, pacs: int, shadow: Path) -> dict[str, int]:
    """Write a node's configuration that uses every kind of destination; return its ports."""
    ports = {"node": free_port(), "web": free_port(), "pacs": pacs}
    peer = f'host = "127.0.0.1"\nport = {pacs}\nretry_seconds = 0.5'
    (folder / "node.toml").write_text(
        f"""\
[node]
bind = "127.0.0.1"
port = {ports["node"]}
[storage]
spool = "spool"
database = "sqlite:///node.db"
min_free_mb = 10
warn_free_mb = 20
database_warn_free_mb = 10
[study]
quiet_seconds = 0.5
[analyse]
studies_at_once = 1
decoders = 1
[policy]
analyse = "all"
report_consistent = true
[model]
shadow = "{shadow}"
[fill]
auto_accept = ["header"]
[report]
secondary_capture = true
saliency = "grad-cam"
[audit]
csv_identifiers = ["AccessionNumber", "PatientID"]
[web]
port = {ports["web"]}
[log]
format = "json"
hash_key = "the comparison of formats"
[destinations.pacs]
{peer}
ae_title = "PACS"
send = ["sr", "sc", "saliency"]
[destinations.research]
{peer}
ae_title = "RESEARCH"
send = []
fill = "inferred"
research = true
[destinations.archive]
{peer}
ae_title = "ARCHIVE"
send = []
forward = "coerced"
"""
    )
    return ports


@contextmanager
def serving(tree: Path, folder: Path, ports: dict[str, int], env: dict[str, str]) -> Iterator[None]:
    """Run ``serve`` below ``folder``, until it listens and no longer than the block."""
    command = [sys.executable, "-m", "dicom_ai_node", "serve", "-c", str(folder / "node.toml")]
    with running(*command, log=folder / "node.log", env={**env, "PYTHONPATH": str(tree)}):
        for name in ("node", "web"):
            wait_until(f"port {name}", partial(listens, ports[name]), seconds=600.0)
        yield


def get(port: int, path: str) -> str:
    """Return the status and body of an answer over HTTP."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return f"{answer.status} {answer.headers['Content-Type']}\n{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.headers['Content-Type']}\n{error.read().decode()}"


def metrics(text: str) -> str:
    """The metrics with help and labels, sorted: their order means nothing to who scrapes them.

    Values only of those that count studies.
    """
    lines = []
    for line in text.splitlines():
        if line.startswith("# "):
            lines.append(line)
        elif not line.startswith(("python_", "process_")):
            name, _, value = line.rpartition(" ")
            counted = re.match(r"dicom_ai_node_(studies|deliveries|proposals|shadow)", name)
            lines.append(f"{name} {value if counted else '<VALUE>'}")
    return "\n".join(sorted(lines)) + "\n"


def log_events(log: Path) -> str:
    """Each kind of event of a log in JSON: level, name and keys."""
    kinds = set()
    for line in log.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            kinds.add(f"not JSON: {line}")
            continue
        keys = ", ".join(sorted(record.keys() - {"event", "level"}))
        kinds.add(f"{record.get('level')} {record.get('event')}: {keys}")
    return "\n".join(sorted(kinds)) + "\n"
