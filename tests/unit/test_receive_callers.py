"""Who may connect, and how many."""

import pytest

from dicom_ai_node.config.processes import Caller, ReceiveSettings
from dicom_ai_node.peer.pdus import Rejection
from dicom_ai_node.receive.callers import Admission, hint, parse_address

CALLERS = (
    Caller(ae_title="CR1", address="10.1.0.0/16"),
    Caller(ae_title="CR1", address="192.0.2.7"),
    Caller(ae_title="PACS"),
)


def admission(**settings: object) -> Admission:
    return Admission(ReceiveSettings.model_validate(settings), ae_title="NODE")


def open_admission(**settings: object) -> Admission:
    """For anybody, as far as there is room."""
    return admission(anybody=True, **settings)


@pytest.mark.parametrize(
    ("calling", "address", "allowed"),
    [
        ("CR1", "10.1.2.3", True),
        ("CR1 ", "192.0.2.7", True),
        ("CR1", "::ffff:10.1.2.3", True),
        ("CR1", "10.2.0.1", False),
        ("CR1", "2001:db8::1", False),
        ("PACS", "203.0.113.9", True),
        ("cr1", "10.1.2.3", False),
        ("OTHER", "10.1.2.3", False),
    ],
)
def test_callers_are_matched_by_title_and_address(
    calling: str, address: str, allowed: bool
) -> None:
    answer = admission(callers=CALLERS).admit("c", address, calling=calling, called="NODE")
    assert answer == (None if allowed else Rejection.CALLING_AE_NOT_RECOGNISED)


@pytest.mark.parametrize("address", ["10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%e0"])
def test_without_callers_other_machines_may_not_call_unless_anybody_may(address: str) -> None:
    request = {"calling": "ANY", "called": "NODE"}
    refused = admission().admit("c", address, **request)
    assert refused is Rejection.CALLING_AE_NOT_RECOGNISED
    assert "receive.callers" in hint(refused)
    assert "receive.anybody = true" in hint(refused)
    assert admission(anybody=True).admit("c", address, **request) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_callers_this_machine_may_call(address: str) -> None:
    assert admission().admit("c", address, calling="ANY", called="NODE") is None


def test_a_list_of_callers_holds_for_this_machine_too() -> None:
    answer = admission(callers=CALLERS).admit("c", "127.0.0.1", calling="ANY", called="NODE")
    assert answer is Rejection.CALLING_AE_NOT_RECOGNISED


def test_another_called_title_is_refused_unless_it_does_not_matter() -> None:
    assert (
        open_admission().admit("c", "10.0.0.1", calling="A", called="X")
        == Rejection.CALLED_AE_NOT_RECOGNISED
    )
    lenient = open_admission(require_called_ae=False)
    assert lenient.admit("c", "10.0.0.1", calling="A", called="X") is None


def test_limits_are_transient_and_end_with_the_association() -> None:
    door = open_admission(max_associations=3, max_associations_per_address=2)

    def ask(key: str, address: str) -> Rejection | None:
        return door.admit(key, address, calling="A", called="NODE")

    assert [ask(key, "10.0.0.1") for key in "ab"] == [None, None]
    assert ask("c", "10.0.0.1") is Rejection.LOCAL_LIMIT_EXCEEDED
    assert ask("d", "10.0.0.2") is None
    assert ask("e", "10.0.0.3") is Rejection.LOCAL_LIMIT_EXCEEDED
    door.leave("a")
    door.leave("a")
    assert ask("e", "10.0.0.3") is None


def test_reject_codes_are_those_of_the_standard() -> None:
    assert Rejection.CALLING_AE_NOT_RECOGNISED.value == (1, 1, 3)
    assert Rejection.CALLED_AE_NOT_RECOGNISED.value == (1, 1, 7)
    assert Rejection.LOCAL_LIMIT_EXCEEDED.value == (2, 3, 2)


def test_a_new_connection_displaces_the_oldest_silent_one_of_its_address() -> None:
    door = open_admission(max_associations_per_address=2)
    assert door.arrive("a", "10.0.0.1") == []
    assert door.arrive("x", "10.0.0.2") == []
    assert door.arrive("b", "10.0.0.1") == []
    assert door.arrive("c", "10.0.0.1") == ["a"]
    assert door.arrive("d", "10.0.0.1") == ["b"]


def test_silent_connections_are_limited_over_all_addresses_too() -> None:
    door = open_admission(max_associations=2)
    assert door.arrive("a", "10.0.0.1") == []
    assert door.arrive("b", "10.0.0.2") == []
    assert door.arrive("c", "10.0.0.3") == ["a"]


def test_an_association_is_not_silent() -> None:
    door = open_admission(max_associations_per_address=1)
    door.arrive("a", "10.0.0.1")
    assert door.admit("a", "10.0.0.1", calling="A", called="NODE") is None
    assert door.arrive("b", "10.0.0.1") == []


def test_link_local_addresses_carry_a_zone() -> None:
    assert str(parse_address("fe80::1%eth0")) == "fe80::1"
