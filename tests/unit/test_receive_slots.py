"""Associations of an address, counted over all receivers of a node."""

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.peer.pdus import Rejection
from dicom_ai_node.receive.callers import Admission
from dicom_ai_node.receive.slots import Slots, make

ONE, OTHER = ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("2001:db8::1")

SIBLING = """
import ipaddress, sys, time
from dicom_ai_node.receive.slots import Slots
slots = Slots(int(sys.argv[1]), row=1, columns=4)
for _ in range(3):
    slots.take(ipaddress.ip_address("10.0.0.1"))
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture
def table() -> Iterator[int]:
    descriptor = make(rows=2, columns=4)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def sibling(table: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", SIBLING, str(table)]
    process = subprocess.Popen(command, pass_fds=[table], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"taken\n"
    yield process
    process.kill()
    process.communicate()


def test_a_row_is_full_when_it_is_full_and_places_are_given_back(table: int) -> None:
    mine = Slots(table, row=0, columns=4)
    places = [mine.take(OTHER) for _ in range(4)]
    assert None not in places
    assert mine.take(ONE) is None
    assert (mine.count_of(OTHER), mine.count_of(ONE)) == (4, 0)
    mine.give_back(places[1] or 0)
    assert mine.take(ONE) == places[1]
    mine.close()
    assert Slots(table, row=0, columns=4).count_of(OTHER) == 0


def test_associations_of_all_receivers_count_until_theirs_is_killed(
    table: int, sibling: "subprocess.Popen[bytes]"
) -> None:
    mine = Slots(table, row=0, columns=4)
    assert mine.count_of(ONE) == 3
    mine.take(ONE)
    assert mine.count_of(ONE) == 4
    sibling.kill()
    sibling.wait()
    assert mine.count_of(ONE) == 1


def test_a_receiver_that_starts_again_begins_with_an_empty_row(
    table: int, sibling: "subprocess.Popen[bytes]"
) -> None:
    mine = Slots(table, row=0, columns=4)
    Slots(table, row=1, columns=4)
    assert mine.count_of(ONE) == 0


def test_the_cap_of_an_address_is_that_of_the_node(
    table: int, sibling: "subprocess.Popen[bytes]"
) -> None:
    settings = ReceiveSettings(anybody=True, max_associations=4, max_associations_per_address=4)
    door = Admission(settings, ae_title="NODE", slots=Slots(table, row=0, columns=4))

    def ask(key: str, address: str) -> Rejection | None:
        return door.admit(key, address, calling="A", called="NODE")

    assert ask("a", "::ffff:10.0.0.1") is None
    assert ask("b", "10.0.0.1") is Rejection.LOCAL_LIMIT_EXCEEDED
    assert door.has_its_share("10.0.0.1")
    assert ask("c", "10.0.0.2") is None
    sibling.kill()
    sibling.wait()
    assert ask("b", "10.0.0.1") is None
