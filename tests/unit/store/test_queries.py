"""The list of studies: each filter, in order, page by page."""

from itertools import product

import pytest
from sqlalchemy import insert

from dicom_ai_node.errors import NodeError
from dicom_ai_node.store import Database
from dicom_ai_node.store.queries import find, place_of
from dicom_ai_node.store.tables import study
from dicom_ai_node.study import State

FLAGGED = (True, False, None)


def fill(db: Database) -> None:
    """Two studies of each state and flag, some of which came at the same moment."""
    times = ("opened_at", "last_at", "closes_at", "updated_at")
    kinds = [*product(State, FLAGGED)] * 2
    rows = [
        {"study_instance_uid": f"1.{number:02}", "state": state, "flagged": flagged}
        | {"first_at": float(number * 7 % 10), **dict.fromkeys(times, 0.0)}
        for number, (state, flagged) in enumerate(kinds)
    ]
    with db.write() as connection:
        connection.execute(insert(study), rows)


@pytest.mark.parametrize("flagged", FLAGGED)
@pytest.mark.parametrize("states", [(), (State.FAILED,), (State.READY, State.DELIVERED)])
def test_pages_are_the_list(db: Database, states: tuple[State, ...], flagged: bool | None) -> None:
    fill(db)
    whole = find(db, states=states, flagged=flagged)
    every = find(db)
    assert len(every) == 2 * len(State) * len(FLAGGED)
    assert whole == [
        row
        for row in every
        if (not states or row.state in states) and (flagged is None or row.flagged is flagged)
    ]
    order = [(row.received_at, row.study_instance_uid) for row in whole]
    assert order == sorted(order, reverse=True)
    pages, after = [], None
    while page := find(db, states=states, flagged=flagged, after=after, limit=5):
        pages += page
        after = place_of(db, page[-1].study_instance_uid)
    assert pages == whole


def test_times_bound_every_page(db: Database) -> None:
    fill(db)
    found = find(db, since=3.0, until=5.0, flagged=True)
    assert found
    assert {row.received_at for row in found} <= {3.0, 4.0}
    assert find(db, since=3.0, until=5.0, after=(3.0, "")) == []


def test_an_unknown_study_has_no_place(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from dicom_ai_node.cli import studies

    assert place_of(db, "9.9") is None
    monkeypatch.setattr(studies, "configuration", lambda _: None)
    monkeypatch.setattr(studies, "open_database", lambda _: db)
    with pytest.raises(NodeError, match=r"no study 9\.9"):
        studies.studies(after="9.9")
    fill(db)
    after = find(db)[0].study_instance_uid
    assert len(list(studies.studies(after=after, limit=9).records)) == 9
