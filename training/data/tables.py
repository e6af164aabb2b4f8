"""CSV files read so that an error names the file, the line, the column and what was expected."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


class DataError(ValueError):
    """A file of the data cannot be used. The message is meant for a person."""


@dataclass(frozen=True, slots=True)
class CsvLine:
    """One line of a table; values have no blanks around them."""

    file: Path
    number: int
    """As an editor counts, so the first line below the header is 2."""
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """The value, '' where it is empty or the table lacks the column."""
        return self.values.get(column, "")

    def wrong(self, column: str, expected: str) -> DataError:
        """The error to raise about a value."""
        got = ascii(self[column][:60])
        return DataError(f"{self.file}:{self.number}: {column}: expected {expected}, got {got}")

    def number_in(self, column: str, low: float, high: float) -> float:
        """The value as a number; DataError unless it is one from ``low`` to ``high``."""
        expected = f"a number from {low:g} to {high:g}"
        try:
            number = float(self[column])
        except ValueError:
            raise self.wrong(column, expected) from None
        if not low <= number <= high:
            raise self.wrong(column, expected)
        return number


def read_table(path: Path, required: Sequence[str]) -> Iterator[CsvLine]:
    """Every line of the CSV file at ``path``, which may be compressed (.gz).

    Raises DataError: the file cannot be read, is not CSV in UTF-8, lacks a column of ``required``,
    or has a line with more or fewer values than columns.
    """
    try:
        with _open(path) as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in required if name not in header]
            if missing:
                raise DataError(f"{path}:1: expected the columns {', '.join(missing)}")
            for values in reader:
                if len(values) != len(header):
                    raise DataError(
                        f"{path}:{reader.line_num}: expected {len(header)} values,"
                        f" got {len(values)}"
                    )
                stripped = (value.strip() for value in values)
                yield CsvLine(path, reader.line_num, dict(zip(header, stripped, strict=True)))
    except OSError as error:
        raise DataError(f"{path}: expected a readable file: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, EOFError) as error:
        raise DataError(f"{path}: expected CSV in UTF-8: {error}") from error


def columns(path: Path) -> list[str]:
    """The columns of the CSV file at ``path``; DataError where it cannot be read."""
    try:
        with _open(path) as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise DataError(f"{path}: expected CSV in UTF-8: {error}") from error


def _open(path: Path) -> TextIO:
    # A byte order mark is what spreadsheets put before the first column's name.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def write_table(path: Path, header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    """Write a CSV file; the old one stays until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    partial.replace(path)
