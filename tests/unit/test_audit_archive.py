"""An audit of the generated archive against its answer key."""

import random
from functools import cache
from pathlib import Path

from dicom_ai_node import pixels
from dicom_ai_node.archive.member import Collected
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.conclude import AuditReport
from dicom_ai_node.rules import RULES, TextHeader
from tests.builders.archive import (
    EACH,
    MISCONFIGURED,
    PATIENTS,
    STUDIES,
    TODAY,
    Planted,
    collected,
    generated,
    headers,
    write,
)
from tests.builders.scores import concluded, fired, scores, table, wrong

SPEC = AuditSpec(source="node", today=TODAY)


@cache
def archive() -> tuple[tuple[Planted, ...], tuple[Collected, ...]]:
    studies = generated()
    return studies, tuple(collected(studies))


@cache
def report() -> AuditReport:
    return concluded(SPEC, archive()[1])


def test_the_archive_is_as_large_as_it_says_and_most_of_it_is_sound() -> None:
    studies, _ = archive()
    assert len({one.uid for one in studies}) == STUDIES
    assert len({one["PatientID"] for study in studies for one in study.instances}) == PATIENTS
    assert sum(not one.expected for one in studies) > STUDIES / 2


def test_every_deterministic_rule_finds_all_that_was_planted_and_nothing_else() -> None:
    rows = scores(archive()[0], fired(report()))
    print(table(rows))
    planted = {row.rule for row in rows if len(row.wanted) >= EACH}
    assert planted >= set(RULES) - {"G6"} | {"C3", "C6", "G5", "G8"}
    assert wrong(rows) == []


def test_the_misconfigured_console_is_the_unusual_station() -> None:
    unusual = {rate.group for rate in report().rates if rate.unusual and rate.by == "station"}
    assert unusual == {MISCONFIGURED}
    told = [one for one in report().studies if "G7" in one.check.rules]
    assert sum(one.origin.station == MISCONFIGURED for one in told) >= 40
    assert all(one.check.flagged for one in told)


def test_the_order_of_studies_and_of_instances_changes_nothing() -> None:
    part = archive()[1][:700]
    mixed = list(part)
    random.Random(1).shuffle(mixed)
    assert concluded(SPEC, mixed) == concluded(SPEC, part)


def test_the_files_say_what_the_key_is_about(tmp_path: Path) -> None:
    some = generated(studies=0, each=1)
    files = write(some, tmp_path)
    read = [TextHeader.from_dataset(pixels.read_header(path)) for path in files]
    wanted = [one for study in some for one in headers(study)]
    for found, sent in zip(read, wanted, strict=True):
        assert {k: found.clean(k) for k in found.values} == {k: sent.clean(k) for k in sent.values}
        assert found.undecodable == sent.undecodable
