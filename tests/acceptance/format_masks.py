"""Takes out of a format what no two runs have in common: times, made UIDs, paths and ports."""

import hashlib
import re
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path

from PIL import Image
from pydicom import dcmread

_TIME = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?([+-]\d\d:?\d\d|Z|UTC))?\b")
_DAY = {f"{date.today() + timedelta(days):%Y%m%d}" for days in (0, -1)}
_ISO_DAY = {f"{date.today() + timedelta(days):%Y-%m-%d}" for days in (0, -1)}
_MADE = re.compile(r"\b(2\.25\.\d{20,}|1\.2\.826\.0\.1\.3680043\.8\.498\.\d+)\b")
_FILE = re.compile(r"\b(reports|instances)/[0-9a-f]{2}/")
_SPANS = re.compile(r'"(studies_per_minute|minutes_left|minutes_at_rate)": [\d.]+')
_OWNER = re.compile(r'"owner": "[^"]+"')
_EPOCH = re.compile(r"\b1[6-9]\d{8}(\.\d+)?\b")
_FREE = re.compile(r"\b\d[\d.,]* ([KMGT]i?B)\b( free)?")
_RACES = re.compile(
    r"lease_owner=[a-z]+-[0-9a-f]+|association=[0-9a-f]{32}|value=[0-9a-f]{64,}"
    r'|after \d+ ms|"seconds": [\d.e-]+|"study_state": "(ready|analysing)"'
    r"|Time = '\d{6}'|path=reports/xx/[0-9a-f]{64}"
)
_CLOCK = re.compile(r"""(?<=Time", "before": null, "after": "')\d{6}|(?<=<TODAY>)\d{6}""")
_SECONDS = re.compile(r"\b\d+(\.\d+)? (s|seconds|minutes) ago\b")


class Mask:
    """Replaces what differs from run to run by what it is."""

    def __init__(self, places: Mapping[Path, str], ports: Mapping[str, int], known: Iterable[str]):
        self.places = {str(path): name for path, name in places.items()}
        self.ports = {str(port): name for name, port in ports.items()}
        self.known = frozenset(known)

    def text(self, text: str) -> str:
        for path in sorted(self.places, key=len, reverse=True):
            text = text.replace(path, f"<{self.places[path]}>")
        for port, name in self.ports.items():
            text = re.sub(rf"(?<![\d.]){port}(?![\d.])", f"<PORT OF {name.upper()}>", text)
        text = _MADE.sub(lambda found: self._uid(found[0]), text)
        text = _FILE.sub(r"\1/xx/", text)
        text = _TIME.sub("<TIME>", text)
        text = _EPOCH.sub("<TIME>", text)
        text = _RACES.sub(lambda found: re.split(r"[=:\d]", found[0])[0] + " <RUN>", text)
        text = _SPANS.sub(r'"\1": <SPAN>', text)
        text = _OWNER.sub('"owner": "<OWNER>"', text)
        text = _SECONDS.sub("<SPAN> ago", text)
        text = _FREE.sub("<BYTES>", text)
        for day in _DAY:
            text = text.replace(day, "<TODAY>")
        text = _CLOCK.sub("<TIME>", text)
        for day in _ISO_DAY:
            text = text.replace(day, "<TO-DAY>")
        if "<OUT>" in text or "<TREE>" in text:  # columns are as wide as the paths were
            text = re.sub(r"(?<=\S)   *", "  ", text)
        return text

    def _uid(self, uid: str) -> str:
        return uid if uid in self.known else "<UID>"

    def dicom(self, path: Path) -> str:
        """What dcmdump says of a file: every element with VR, value and length."""
        done = subprocess.run(
            ["/usr/bin/dcmdump", "--load-all", "+L", str(path)],
            capture_output=True,
            check=True,
        )
        text = done.stdout.decode("utf-8", "backslashreplace")
        return "".join(map(self._element, text.splitlines()))

    def _element(self, line: str) -> str:
        """One line of the dump. Lengths of UIDs and of what holds them vary from run to run."""
        masked = self.text(line)
        if line.startswith("(7fe0,0010)"):
            return line[:15] + "\n"
        vr = line.strip()[12:14]
        if vr == "TM" and "101500" not in line:
            masked = re.sub(r"\[\d{6}(\.\d+)?\]", "[<TIME>]", masked)
        if vr == "DT":
            masked = re.sub(r"\[[\d.<>A-Z]+([+-]\d{4})?\]", "[<TIME>]", masked)
        if vr in ("UI", "SQ", "na", "UL", "DT", "TM", "OB", "OW"):
            masked = re.sub(r"# +\d+,", "# n,", masked)
            masked = re.sub(r"^( *\(0002,0000\) UL) \d+", r"\1 n", masked)
        return masked + "\n"

    @staticmethod
    def pixels(path: Path) -> str:
        dataset = dcmread(path)
        if "PixelData" not in dataset:
            return ""
        return f"SHA-256 of PixelData {hashlib.sha256(dataset.PixelData).hexdigest()}\n"

    @staticmethod
    def picture(path: Path) -> str:
        """What a PNG shows, whatever its compression."""
        with Image.open(path) as image:
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            return f"{image.mode} {image.size} {image.info} SHA-256 {digest}\n"

    def database(self, path: Path, *, raw: bool) -> str:
        """Every row of a SQLite database; with ``raw`` its times and UIDs as they stand."""
        lines = []
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            for (table,) in connection.execute(query).fetchall():
                if table.startswith("sqlite_"):
                    continue
                cursor = connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
                names = [column[0] for column in cursor.description]
                for row in cursor:
                    cells = dict(zip(names, map(str, row), strict=True))
                    lines.append(f"{table} " + " | ".join(f"{k}={v}" for k, v in cells.items()))
                if not lines or not lines[-1].startswith(f"{table} "):
                    lines.append(f"{table} has no row: {', '.join(names)}")
        text = "\n".join(lines) + "\n"
        if raw:
            return text
        # Transitions of two studies may come in either order: those of one study may not.
        found = re.sub(
            r"^transition id=\d+", "transition", self.text(text), flags=re.M
        ).splitlines()
        return "\n".join(sorted(found, key=lambda line: line.split(" | at=")[:1])) + "\n"

    @staticmethod
    def schema(path: Path) -> str:
        """Tables, columns and indexes of a SQLite database."""
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"
            found = [" ".join(sql.split()).replace('"', "") for (sql,) in connection.execute(query)]
        return "\n".join(found) + "\n"
