import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.study import TRANSITIONS, Effect, Event, State, closing_time, step

EVENTS = st.lists(st.sampled_from(Event), max_size=30)


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


def test_ignored_events_leave_the_state_alone() -> None:
    for (state, _), (after, effect) in TRANSITIONS.items():
        if effect is Effect.IGNORE:
            assert after is state


def test_every_state_can_be_reached() -> None:
    reached, frontier = {State.COLLECTING}, [State.COLLECTING]
    while frontier:
        state = frontier.pop()
        for event in Event:
            after = step(state, event).state
            if after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == set(State)


def test_a_new_image_always_leads_back_to_collecting() -> None:
    assert {step(state, Event.INSTANCE).state for state in State} == {State.COLLECTING}


@given(EVENTS)
def test_no_sequence_of_events_is_a_dead_end(events: list[Event]) -> None:
    """From wherever a study is, a person or an analyser can still get it delivered."""
    state = State.COLLECTING
    for event in events:
        state = step(state, event).state
    way_out = (Event.LEASE_EXPIRED, Event.QUIET, Event.REQUEUE, Event.CLAIM, Event.RESULT)
    for event in (*way_out, Event.SETTLED):
        state = step(state, event).state
    assert state is State.DELIVERED


@given(EVENTS, st.sampled_from(Event))
def test_a_settled_study_is_not_moved_by_repeated_worker_events(
    events: list[Event], repeated: Event
) -> None:
    worker_events = {Event.RESULT, Event.NOTHING, Event.ERROR, Event.GIVE_UP, Event.LEASE_EXPIRED}
    if repeated in worker_events:
        assert step(State.DELIVERED, repeated) == (State.DELIVERED, Effect.IGNORE)


def test_closing_time_counts_from_the_last_instance_up_to_a_cap() -> None:
    settings = StudySettings(quiet_seconds=30, max_wait_seconds=100)
    assert closing_time(opened_at=0, last_at=5, settings=settings) == 35
    assert closing_time(opened_at=0, last_at=95, settings=settings) == 100


def test_a_cap_below_the_quiet_time_is_refused() -> None:
    with pytest.raises(ValueError, match="max_wait_seconds must be at least quiet_seconds"):
        StudySettings(quiet_seconds=30, max_wait_seconds=10)
