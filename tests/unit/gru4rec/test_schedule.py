import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.gru4rec.schedule import Schedule, plan_batches


def plan(lengths: list[int], batch_size: int) -> Schedule:
    return plan_batches(np.cumsum([0, *lengths]).astype(np.int64), batch_size)


def by_step(schedule: Schedule, values: np.ndarray) -> list[list[int]]:
    """Values of events, cut by step; by lane within a step."""
    return [part.tolist() for part in np.split(values, schedule.step_offsets[1:-1])] if schedule.n_steps else []


def steps(schedule: Schedule) -> list[list[int]]:
    """Input clicks of each step."""
    return by_step(schedule, schedule.clicks)


def test_a_lane_that_ends_takes_the_next_session_and_the_batch_shrinks_to_the_last_transition() -> None:
    # sessions:   0: clicks 0-2, 1: clicks 3-4, 2: clicks 5-8, 3: clicks 9-10
    schedule = plan([3, 2, 4, 2], 2)
    # Session 0 and then 3 run in one lane; session 1 and then 2 in the other, which stays busy longer and so is lane 0.
    assert steps(schedule) == [[3, 0], [5, 1], [6, 9], [7]]
    assert by_step(schedule, schedule.starts_session) == [[True, True], [True, False], [False, True], [False]]
    assert (schedule.n_lanes, schedule.n_steps, schedule.n_events) == (2, 4, 7)


def test_fewer_sessions_than_lanes_make_fewer_lanes() -> None:
    schedule = plan([2, 3], 100)
    assert schedule.n_lanes == 2
    assert steps(schedule) == [[2, 0], [3]]


def test_sessions_without_a_transition_are_left_out() -> None:
    assert steps(plan([1, 2, 0, 1, 2], 1)) == [[1], [4]]


def test_no_transition_gives_no_step() -> None:
    for lengths in ([], [1, 1, 0]):
        schedule = plan(lengths, 4)
        assert (schedule.n_lanes, schedule.n_steps, schedule.n_events) == (0, 0, 0)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 12))
def test_every_transition_runs_once_in_the_order_of_its_session(lengths: list[int], batch_size: int) -> None:
    offsets = np.cumsum([0, *lengths])
    schedule = plan(lengths, batch_size)
    transitions = [click for start, n in zip(offsets[:-1], lengths, strict=True) for click in range(start, start + n - 1)]
    assert sorted(schedule.clicks.tolist()) == transitions

    widths = np.diff(schedule.step_offsets)
    assert (np.diff(widths) <= 0).all(), "the batch only ever shrinks"
    assert widths.max(initial=0) == schedule.n_lanes == min(batch_size, sum(n > 1 for n in lengths))

    first_clicks = set(offsets[:-1].tolist())
    begun: list[int] = []
    running: list[int] = [-1] * schedule.n_lanes
    for clicks, flags in zip(steps(schedule), by_step(schedule, schedule.starts_session), strict=True):
        for lane, (click, starts) in enumerate(zip(clicks, flags, strict=True)):
            assert starts == (click in first_clicks), "the state is reset exactly where a session starts"
            assert starts or running[lane] == click - 1, "a lane continues its session, without a gap"
            running[lane] = click
        begun += sorted(click for click, starts in zip(clicks, flags, strict=True) if starts)
    assert begun == sorted(begun), "sessions start in the order given"
