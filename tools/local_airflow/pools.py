"""The pools that tasks run in. A task whose pool doesn't exist never starts, so whatever sets up Airflow creates them.

As a program, it creates the missing ones in the database of the Airflow that the environment names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pool:
    """A limit on how many tasks of a kind run at once."""

    name: str
    slots: int
    description: str


POOLS = (
    Pool("training", 2, "Concurrent trainings: as many as the workers have memory and processors for"),
    Pool("promotion", 1, "One decision at a time, so that none has to be repeated"),
)


def create_missing(pools: Sequence[Pool] = POOLS) -> list[Pool]:
    """Creates the missing pools and returns them; one whose size somebody changed keeps it."""
    from airflow.models.pool import Pool as Row
    from airflow.utils.session import create_session

    with create_session() as session:
        there = {row.pool for row in Row.get_pools(session=session)}
        missing = [pool for pool in pools if pool.name not in there]
        session.add_all(
            Row(pool=pool.name, slots=pool.slots, description=pool.description, include_deferred=False) for pool in missing
        )
    return missing


if __name__ == "__main__":
    create_missing()
