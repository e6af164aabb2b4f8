"""The log of a run: how far it is, and the smoothed parts of the loss, as CSV with a header."""

import csv
from pathlib import Path

from training.fit.run import Run

FILE = "log.csv"
EVERY = 50
"""Steps between two rows."""


class Log:
    """The log in ``folder`` as it was after ``steps``: what came later is made again."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.file = folder / FILE
        kept = _rows(self.file, steps)
        self._empty = not kept
        with self.file.open("w", newline="") as file:
            csv.writer(file).writerows(kept)

    def add(self, run: Run, side: int) -> None:
        """A row, where it is time for one."""
        if run.steps % EVERY:
            return
        with self.file.open("a", newline="") as file:
            log = csv.writer(file)
            if self._empty:
                log.writerow(["step", "seconds", "side", *run.seen])
                self._empty = False
            values = (f"{value:.4f}" for value in run.seen.values())
            log.writerow([run.steps, round(run.elapsed), side, *values])


def _rows(path: Path, steps: int) -> list[list[str]]:
    """Header and rows up to ``steps``, without one that was only written in part."""
    if not steps or not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return rows[:1] + [row for row in rows[1:] if len(row) == len(rows[0]) and int(row[0]) <= steps]
