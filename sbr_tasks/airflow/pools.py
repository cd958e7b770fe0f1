"""The pools that tasks run in. A task whose pool doesn't exist never starts, so whatever sets up Airflow creates them.

`python -m sbr_tasks.airflow.pools` creates the missing ones in the database of the Airflow that the environment names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


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


def create_missing(slots: Mapping[str, int] | None = None) -> list[Pool]:
    """Creates the missing pools and returns them; an existing pool keeps its size.

    Args:
        slots: By name, sizes that differ from those of `POOLS`.
    """
    from airflow.models.pool import Pool as Row
    from airflow.utils.session import create_session

    pools = [replace(pool, slots=(slots or {}).get(pool.name, pool.slots)) for pool in POOLS]
    with create_session() as session:
        existing = {row.pool for row in Row.get_pools(session=session)}
        missing = [pool for pool in pools if pool.name not in existing]
        session.add_all(
            Row(pool=pool.name, slots=pool.slots, description=pool.description, include_deferred=False) for pool in missing
        )
    return missing


if __name__ == "__main__":
    create_missing()
