"""A node of which only the analyser is at work."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread, dcmwrite

from dicom_ai_node.analyse.observe import Shadow
from dicom_ai_node.analyse.worker import Analyser
from dicom_ai_node.answers import ImageRef
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.config.bundles import analysed_classes
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pipeline import Pipeline
from dicom_ai_node.spool import Spool
from dicom_ai_node.store.instances import StoredInstance, record
from dicom_ai_node.store.queries import StudyDetail, show
from dicom_ai_node.store.study_queue import close_due
from tests.builders.databases import opened

GATES_OPEN = {"min_chest": 0.0, "min_frontal": 0.0, "min_in_distribution": 0.0}
"""Of ``[policy]``: any image passes."""


class Node:
    """An analyser with spool and database below ``folder``; ``values`` are its configuration.

    Unless they say otherwise, studies without a fault are reported too.
    """

    def __init__(
        self,
        folder: Path,
        estimator: Estimator,
        values: dict[str, Any],
        other: Estimator | None = None,
        further: Sequence[Estimator] = (),
    ) -> None:
        storage = {"spool": str(folder / "spool"), "database": f"sqlite:///{folder}/node.db"}
        policy = {"report_consistent": True} | values.get("policy", {})
        self.config: Config = parse_config({"storage": storage, **values, "policy": policy})
        self.db = opened(self.config.storage.database)
        self.spool = Spool(self.config.storage.spool)
        self.spool.create()
        live, shadow = (
            Pipeline(*some, rules=self.config.rules, policy=self.config.policy) if some else None
            for some in ([estimator, *further], [other] if other else [])
        )
        assert live is not None
        self.analyser = Analyser(
            self.config, self.db, self.spool, live, Shadow(shadow) if shadow else None
        )

    def receive(self, dataset: Dataset) -> str:
        """File an image as the receiver would, long ago; return the UID of its study."""
        content = BytesIO()
        dcmwrite(content, dataset, enforce_file_format=True)
        path = self.spool.instances / f"{dataset.SOPInstanceUID}.dcm"
        path.write_bytes(content.getvalue())
        names = (dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID)
        stored = StoredInstance(
            image=ImageRef(*map(str, names)),
            transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
            path=self.spool.relative(path),
            digest=hashlib.sha256(content.getvalue()).hexdigest(),
        )
        uid, settings = str(dataset.StudyInstanceUID), self.config.study
        record(
            self.db, stored, study_instance_uid=uid, settings=settings, now=time.time() - 1000,
            analysable=str(dataset.SOPClassUID) in analysed_classes(self.config.model),
        )  # fmt: skip
        return uid

    def work(self) -> int:
        """Close what is quiet and analyse it; return how many studies there were."""
        close_due(self.db, now=time.time(), settings=self.config.study)
        with ThreadPoolExecutor(1) as decoders:
            return self.analyser.run_once(decoders)

    def analyse(self, dataset: Dataset) -> StudyDetail:
        """Receive an image and analyse its study."""
        uid = self.receive(dataset)
        assert self.work() == 1
        found = show(self.db, uid)
        assert found is not None
        return found

    def captures(self) -> list[Dataset]:
        """The saliency captures that were made."""
        made = [dcmread(path) for path in self.spool.reports.rglob("*.dcm")]
        return [ds for ds in made if ds.get("SeriesNumber") == 9902]
