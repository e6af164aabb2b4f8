"""Builders for filled copies: a node with real images, proposals, and a stand-in that fills."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.demo.images import radiograph, set_pixels
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.report.identity import ReportFile
from dicom_ai_node.store import decisions, proposals
from dicom_ai_node.store.instances import StoredInstance, record
from dicom_ai_node.store.proposals import ProposalDetail, StoredProposal
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.study_queue import close_due
from dicom_ai_node.study.proposals import Decision
from dicom_ai_node.types import FillProposal, ProposalSource
from tests.builders.outbox import Outbox
from tests.builders.rows import TIMING, claim_one

AGE = FillProposal("PatientAge", "063Y", ProposalSource.DATES, "dates", ("B3",))
GUESSED_AGE = FillProposal(
    "PatientAge", "063Y", ProposalSource.INFERENCE, "estimate", ("B3",), (53.0, 73.0)
)
GUESSED_SEX = FillProposal(
    "PatientSex", "F", ProposalSource.INFERENCE, "estimate", ("B2",), None, 0.98
)


def make(
    source: bytes, values: Sequence[ProposalDetail], *, at: datetime, research: bool
) -> ReportFile:
    """Stand in for ``report/copies``: a new UID and the values, nothing else."""
    dataset = dcmread(BytesIO(source))
    filled = {one.proposal.proposed.keyword: one.proposal.proposed.value for one in values}
    uid = uid_of("copy", str(dataset.SOPInstanceUID), str(sorted(filled.items())))
    for keyword, value in filled.items():
        setattr(dataset, keyword, value)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    dataset.ContributionDateTime = at.strftime("%Y%m%d%H%M%S")
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return ReportFile(str(dataset.SOPClassUID), uid, buffer.getvalue())


def image(
    study: str, number: int = 1, *, syntax: UID = ExplicitVRLittleEndian, **values: Any
) -> bytes:
    """A CR image without age and sex, if ``values`` hold none, as a DICOM file."""
    pixels = np.random.default_rng(number).integers(0, 4096, (48, 32), dtype=np.uint16)
    dataset = radiograph(pixels, study=study, number=number, **values)
    set_pixels(dataset, pixels, syntax)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


class Ward(Outbox):
    """A node with images in its spool, and nothing running."""

    def add_image(
        self,
        study: str,
        number: int = 1,
        *,
        syntax: UID = ExplicitVRLittleEndian,
        analysable: bool = True,
        calling_ae: str = "MODALITY",
        **values: Any,
    ) -> str:
        """File an image; return its StudyInstanceUID."""
        content = image(study, number, syntax=syntax, **values)
        dataset = dcmread(BytesIO(content))
        sop = str(dataset.SOPInstanceUID)
        path = self.spool.instances / f"{sop}.dcm"
        path.write_bytes(content)
        stored = StoredInstance(
            image=ImageRef(str(dataset.SOPClassUID), sop, str(dataset.SeriesInstanceUID)),
            transfer_syntax_uid=str(syntax),
            path=self.spool.relative(path),
            digest=sop,
            size=len(content),
            calling_ae=calling_ae,
        )
        uid = str(dataset.StudyInstanceUID)
        record(
            self.db,
            stored,
            study_instance_uid=uid,
            analysable=analysable,
            settings=TIMING,
            now=time.time() - 1000,
            forward=bool(self.config.forwarding),
        )
        return uid

    def analyse(
        self,
        *proposed: FillProposal,
        key: str = "k1",
        auto_accept: frozenset[FillProposal] = frozenset(),
        station: str = "",
    ) -> None:
        """End the analysis of the one study that waits for it with these proposals."""
        now = time.time()
        close_due(self.db, now=now, settings=TIMING)
        new = NewAnalysis(
            key,
            {"model": None},
            True,
            (),
            proposals=proposed,
            auto_accept=auto_accept,
            station=station,
        )
        assert finish(
            self.db,
            claim_one(self.db, now=now),
            new,
            header=None,
            destinations={},
            reason=None,
            now=now,
        )

    def accept(self, uid: str, *, by: str = "roe") -> None:
        """Accept everything that is open for a study."""
        for one in proposals.find(self.db, proposals.Selection(study_instance_uid=uid)):
            decisions.decide_on(
                self.db, one, Decision.ACCEPT, actor=by, reason="r", now=time.time()
            )

    def accepted_study(
        self, study: str = "one", *proposed: FillProposal, syntax: UID = ExplicitVRLittleEndian
    ) -> str:
        """A study of one image whose proposals a person has accepted."""
        uid = self.add_image(study, syntax=syntax)
        self.analyse(*(proposed or (AGE,)))
        self.accept(uid)
        return uid

    def proposal(self, uid: str, keyword: str = "PatientAge") -> StoredProposal:
        """The newest proposal of a study for an attribute."""
        return proposals.find(
            self.db, proposals.Selection(study_instance_uid=uid, keyword=keyword)
        )[0]

    def copies(self) -> list[Path]:
        """The files of all copies."""
        return sorted(self.spool.reports.glob("*/*.dcm"))


@contextmanager
def ward(folder: Path, **destinations: Mapping[str, Any]) -> Iterator[Ward]:
    """A ward with destinations by name, ``pacs={"fill": "inferred"}``."""
    found = Ward(folder, {name: {"port": 104} | dict(one) for name, one in destinations.items()})
    try:
        yield found
    finally:
        found.close()
