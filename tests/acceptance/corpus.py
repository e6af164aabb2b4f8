"""Every file of a folder, sent to a running node as it lies on the disk, and through ``infer``.

    python -m tests.acceptance.corpus ../shared/data/dicom

Prints one line per file and a table of outcomes; fails when a file has no stated outcome, when a
study is not settled, or when the log holds an error that is not a stated outcome.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE

from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.store import Database
from dicom_ai_node.store.queries import show
from tests.acceptance.harness import Node


@dataclass(frozen=True, slots=True)
class Raw:
    """A file's data set as bytes, and what a sender would say of it."""

    path: Path
    sop_class: str
    sop_instance: str
    syntax: str
    study: str
    content: bytes


def read_raw(path: Path) -> Raw | str:
    """Return what can be sent of a file, or why nothing can."""
    content = path.read_bytes()
    try:
        dataset = dcmread(path, force=True, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, NotImplementedError) as error:
        return f"not readable: {type(error).__name__}"
    meta = dataset.file_meta
    start = 0
    if content[128:132] == b"DICM":
        start = 132 + 12 + int(meta.get("FileMetaInformationGroupLength", 0) or 0)
    sop_class = str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    sop_instance = str(meta.get("MediaStorageSOPInstanceUID") or dataset.get("SOPInstanceUID", ""))
    if not sop_class or not sop_instance:
        return "no SOP Class or Instance UID: C-STORE cannot name it"
    return Raw(
        path,
        sop_class,
        sop_instance,
        str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian),
        str(dataset.get("StudyInstanceUID", "")),
        content[start:],
    )


def send_raw(port: int, raw: Raw) -> str:
    """Send the bytes as they are; return the status in hexadecimal, or what happened instead."""
    ae = AE("CORPUS")
    ae.dimse_timeout = ae.network_timeout = ae.acse_timeout = 60
    contexts = [build_context(raw.sop_class, raw.syntax)]
    association = ae.associate("127.0.0.1", port, contexts, ae_title="DICOMAINODE")
    if not association.is_established:
        return "class or syntax not accepted"
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = raw.sop_class
    request.AffectedSOPInstanceUID = raw.sop_instance
    request.Priority = 0
    request.DataSet = BytesIO(raw.content)
    # As send_c_store does it: the association's own thread must not take the answer.
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return f"0x{response.Status:04X}" if response is not None else "no answer"


def run_infer(node: Node, folder: Path) -> dict[str, dict[str, object]]:
    """Return the lines of ``infer --json`` by path."""
    command = [sys.executable, "-m", "dicom_ai_node", "infer", str(folder), "--json"]
    done = subprocess.run(
        [*command, "-c", str(node.path)], capture_output=True, text=True, check=False
    )
    if "Traceback" in done.stderr:
        raise AssertionError(done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {str(line["path"]): line for line in lines}


def run_corpus(corpus: Path, folder: Path) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Send and infer everything; return (file, node's outcome, infer's outcome), and faults."""
    files = sorted(path for path in corpus.rglob("*.dcm"))
    read = {path: read_raw(path) for path in files}
    raws = [raw for raw in read.values() if isinstance(raw, Raw)]
    classes = sorted({raw.sop_class for raw in raws})
    faults: list[str] = []
    answers: dict[Path, str] = {}
    with EmbeddedPacs(folder / "pacs", ae_title="PACS") as pacs:
        node = Node(
            folder / "node",
            destinations={"pacs": ("PACS", pacs.port)},
            kept_classes=classes,
            policy='analyse = "all"',
        )
        with node:
            for raw in raws:
                answers[raw.path] = send_raw(node.port, raw)
            accepted = {raw.study for raw in raws if answers[raw.path] == "0x0000"}
            rows = node.wait_settled(len(accepted), seconds=600)
            faults += [f"{row.study_instance_uid} is {row.state}" for row in rows if _open(row)]
        inferred = run_infer(node, corpus)
        outcomes = _outcomes(node, read, answers)
        log = node.log.read_text()
    faults += [line for line in log.splitlines() if "Traceback" in line]
    table = []
    for path in files:
        line = inferred.get(str(path))
        if line is None:
            faults.append(f"{path}: no line from infer")
        table.append((path.name, outcomes[path], _infer_outcome(line)))
    return table, faults


def _open(row: object) -> bool:
    return getattr(row, "state", "") not in ("delivered", "skipped")


def _outcomes(node: Node, read: dict[Path, Raw | str], answers: dict[Path, str]) -> dict[Path, str]:
    db = Database(node.config.storage.database)
    outcomes = {}
    for path, raw in read.items():
        if isinstance(raw, str):
            outcomes[path] = f"not sent: {raw}"
        elif answers[path] != "0x0000":
            outcomes[path] = f"refused {answers[path]}"
        else:
            detail = show(db, raw.study)
            result = (detail.result if detail else None) or {}
            reason = detail.study.reason_code if detail else "unknown"
            state = detail.study.state if detail else "unknown"
            outcomes[path] = " ".join(filter(None, (state, result.get("outcome", ""), reason)))
    db.close()
    return outcomes


def _infer_outcome(line: dict[str, object] | None) -> str:
    if line is None:
        return "missing"
    reason = line["reason"]
    return f"{line['outcome']}" + (f" {reason['code']}" if isinstance(reason, dict) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    options = parser.parse_args()
    table, faults = run_corpus(options.corpus, Path(tempfile.mkdtemp(prefix="corpus-")))
    for name, node, infer in table:
        print(f"{name[:60]:60}  {node:44}  {infer}")
    print("\nfiles  node / infer")
    for (node, infer), count in Counter((node, infer) for _, node, infer in table).most_common():
        print(f"{count:5}  {node} / {infer}")
    print(f"\n{len(table)} files, {len(faults)} without a stated outcome or with a traceback")
    for fault in faults:
        print(f"  {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
