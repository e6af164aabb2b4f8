"""Every public format that a version of the package writes, and the comparison of two versions.

    python -m tests.acceptance.formats --tree ../before --out /tmp/formats-before
    python -m tests.acceptance.formats --tree . --out /tmp/formats-now --old /tmp/formats-before
    python -m tests.acceptance.formats --compare /tmp/formats-before /tmp/formats-now

A run takes the package in ``--tree`` through its command line alone: the demo, files, a node with a
PACS, audits, and a database of the older version that it upgrades. What no two runs have in common
is masked. The comparison prints each format that differs, and ends with 1 unless all differences
are listed in ``format_changes.py``.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from pydicom import Dataset, dcmread

from tests.acceptance import format_inputs as inputs
from tests.acceptance.format_commands import Commands
from tests.acceptance.format_compare import compare
from tests.acceptance.format_masks import Mask
from tests.acceptance.format_peers import (
    Pacs,
    configuration,
    get,
    log_events,
    metrics,
    send,
    serving,
)
from tests.builders.waiting import wait_until

PERSON = ("--by", "A. Person", "--reason", "compared")
GROUPS = ("audit", "db", "model", "monitor", "proposals")
_MIGRATED = """
import sys
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
config = Config()
config.set_main_option("script_location", sys.argv[1] + "/dicom_ai_node/store/migrations")
with create_engine("sqlite:///" + sys.argv[2]).begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, "0007")
"""
_BY_NAME = {
    "sex": "coalesce(json_extract(recorded, '$.PatientSex'), '')",
    "age": "json_extract(recorded, '$.PatientAge')",
    "mu": "json_extract(heads, '$.age.answer.mu')",
    "low90": "json_extract(heads, '$.age.answer.low90')",
    "high90": "json_extract(heads, '$.age.answer.high90')",
    "probability_female": "json_extract(heads, '$.sex.answer.F')",
}
"""The columns that an observation lost in migration 0011, of what it has since."""
_ENDED = {"delivered", "undelivered", "skipped", "failed", "dead"}


class Formats:
    """One run over one version."""

    def __init__(self, tree: Path, out: Path, old: Path | None) -> None:
        self.tree, self.out, self.old = tree.resolve(), out.resolve(), (old or out).resolve()
        self.env = {
            **os.environ,
            "COLUMNS": "120",
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "OMP_NUM_THREADS": "1",
            "TERM": "dumb",
            "USER": "tester",
        }
        self.env.pop("DICOM_AI_NODE_CONFIG", None)
        self.node = self.out / "node"
        self.pacs = Pacs(self.out / "pacs")
        self.ports: dict[str, int] = {}
        self.known: set[str] = set()

    def make(self, skipped: Sequence[str]) -> None:
        """Write every format below ``out/formats``, and then mask it.

        ``skipped``: steps that an earlier run into the same folder has taken.
        """
        with Commands(self.tree, self.out, self.env) as self.commands:
            for step in (
                self.demo,
                self.files,
                self.models,
                self.settings,
                self.running,
                self.archives,
                self.kept,
                self.upgraded,
                self.help,
                self.errors,
            ):
                began = time.monotonic()
                if step.__name__ in skipped:
                    continue
                step()
                print(f"{step.__name__:10} {time.monotonic() - began:6.1f} s", flush=True)
        self.pacs.close()
        self.mask_all()

    def run(self, name: str, *words: str, code: int | None = None) -> None:
        self.commands.run(name, *words, code=code)

    def both(self, name: str, *words: str) -> None:
        """A command as a person sees it, and as a program does."""
        self.run(name, *words)
        self.run(f"{name}-json", *words, "--json")

    def demo(self) -> None:
        self.run("demo/json", "demo", "--json", "--keep", "demo", code=0)
        inputs.headers(self.pixels, self.out / "headers")
        inputs.odd_files(self.pixels[0], self.out / "odd")
        inputs.archive(self.pixels, self.out / "archive")

    def files(self) -> None:
        for form in ("table", "json", "csv"):
            self.run(f"check-header/{form}", "check-header", "headers", "odd", "--format", form)
        self.run("check-header/json-option", "check-header", "headers/nounit.dcm", "--json")
        few = [f"headers/{name}.dcm" for name in ("sound", "agemissing", "other", "animal", "male")]
        self.run("infer/few", "infer", *few)
        folders = ("--saliency", "maps", "--sr", "reports")
        self.run("infer/few-json", "infer", *few, "odd", *folders, "--json")
        more = [f"headers/{name}.dcm" for name in sorted(inputs.FAULTS)[::3]]
        self.run("infer/more-json", "infer", *more, "--json")
        self.run("infer/odd", "infer", "odd", "--saliency", "odd-maps")
        score = ("--saliency-method", "score-cam", "--saliency-head", "age")
        self.run("infer/score-cam-json", "infer", few[0], "--saliency", "score", *score, "--json")

    def models(self) -> None:
        self.both("model/list", "model", "list")
        self.both("model/show", "model", "show")
        self.both("model/verify", "model", "verify")
        site = ("model", "recalibrate", "--from", "archive", "--label", "formats", "--out", "site")
        self.run("model/recalibrate-json", *site, "--json")
        inputs.other_bundle(self.tree / "models" / "chest-age-sex", self.out / "other")
        self.run("model/show-other-json", "model", "show", "other", "--json")
        self.run("model/export-json", "model", "export", "--onnx", "network.onnx", "--json")
        names = "import onnx, sys; graph = onnx.load(sys.argv[1]).graph\n" + (
            "for value in (*graph.input, *graph.output): print(value.name, value.type)"
        )
        self._save("model/onnx-names", self._python(names, str(self.out / "network.onnx")))

    def settings(self) -> None:
        self.run("config/example", "check-config", "--example")
        self.run("config/example-data", "check-config", "--example", "--data", "/var/lib/node")
        self.node.mkdir()
        self.ports = configuration(self.node, self.pacs.port, self.out / "other")
        self.commands.config = str(self.node / "node.toml")
        self.config = ("-c", str(self.node / "node.toml"))
        self.both("config/check", "check-config", *self.config)

    def running(self) -> None:
        with serving(self.tree, self.node, self.ports, self.env):
            for name in inputs.SENT:
                pixels = self.pixels[2] if name == "lateral" else self.pixels[0]
                self._send(inputs.radiograph(pixels, name, **inputs.FAULTS[name]))
            self._send(inputs.radiograph(self.pixels[1], "sound", 2))  # late: a new revision
            bad = inputs.radiograph(self.pixels[0], "nostudy", StudyInstanceUID="1..2")
            self._save("receive/bad-study-uid", f"{send(self.ports['node'], bad)}\n")
            self._decide()
            self.both("status/running", "status", *self.config)
            self.both("echo/pacs", "echo", "pacs", *self.config)
            for path in ("/health/live", "/health/ready", "/nothing"):
                self._save(f"web{path.replace('/', '-')}", get(self.ports["web"], path))
            self._save("web/metrics", metrics(get(self.ports["web"], "/metrics")))
        self._save("log/events", log_events(self.node / "node.log"))

    def _decide(self) -> None:
        """Proposals, shadow mode, requeue, while the node runs."""
        found = self.commands.rows("proposals/list-open-json", "proposals", "list", *self.config)
        for number, proposal in enumerate(found):
            if number < 4:
                self.both(f"proposals/show-{number}", "proposals", "show", str(proposal["id"]))
        inferred = [str(one["id"]) for one in found if one["source"] == "inference"]
        dates = ("--source", "dates")
        self.run("proposals/preview", "proposals", "preview", inferred[0], "--destination",
                 "research")  # fmt: skip
        for name in ("research", "archive"):
            self.run(f"proposals/preview-{name}-json", "proposals", "preview", inferred[0],
                     "--destination", name, "--all", "--json")  # fmt: skip
        self.run("proposals/accept-dry", "proposals", "accept", *dates, *PERSON, "--dry-run")
        self.run("proposals/accept-dates-json", "proposals", "accept", *dates, *PERSON, "--yes",
                 "--json")  # fmt: skip
        self.run("proposals/accept", "proposals", "accept", inferred[0], *PERSON)
        self.run("proposals/accept-again", "proposals", "accept", inferred[0], *PERSON)
        self.run("proposals/reject-json", "proposals", "reject", inferred[1], *PERSON, "--json")
        self.run("proposals/apply-dry", "proposals", "apply", "--all", "--dry-run")
        self.run("proposals/apply-json", "proposals", "apply", "--all", "--by", "A", "--json")
        self.run("proposals/apply-again", "proposals", "apply", "--all", "--by", "A")
        self._wait("copies")
        self.run("monitor/shadow", "monitor", "shadow", *PERSON)
        self._send(inputs.radiograph(self.pixels[0], "withheld", PatientAge=None))
        self.run("monitor/resume", "monitor", "resume", *PERSON, "--new-reference")
        self.run("requeue/withheld-json", "requeue", "--withheld", "--json")
        self._wait("what was withheld")
        for form in ((), ("--json",)):  # each time anew, or the second may ask for what waits yet
            name = "-".join(["requeue/study", *(one.strip("-") for one in form)])
            self.run(name, "requeue", inputs.uid("sound"), *form)
            self._wait("what was asked for again")
        self.run("requeue/dead-json", "requeue", "--dead", "--json")
        self._wait("dead letters")

    def _send(self, dataset: Dataset) -> None:
        status = send(self.ports["node"], dataset)
        if status != 0:
            raise RuntimeError(f"the node answered a C-STORE with {status}")
        self._wait(str(dataset.PatientID))

    def _wait(self, what: str) -> None:
        """Wait until every study and every delivery has come to its end."""

        def settled() -> bool:
            with sqlite3.connect(f"file:{self.node / 'node.db'}?mode=ro", uri=True) as connection:
                query = "SELECT state FROM study UNION SELECT state FROM delivery"
                states = {state for (state,) in connection.execute(query)}
            return bool(states) and states <= _ENDED

        time.sleep(0.7)  # the quiet time: no study may be closed already
        wait_until(f"the end of {what}", settled, seconds=600.0)

    def archives(self) -> None:
        source = ("--source", f"folder:{self.out / 'archive'}")
        self.both("audit/dry-run", "audit", "start", *source, "--dry-run")
        self.run("audit/start-json", "audit", "start", *source, "--pixels", "all", "--json", code=0)
        self.run("audit/start-headers", "audit", "start", *source, "--headers-only",
                 "--from", "2026-03-05", "--to", "2026-03-09")  # fmt: skip
        self.run("audit/start-node-json", "audit", "start", "--source", "node",
                 "--alerts-per-day", "2", "--json")  # fmt: skip
        self.run("audit/start-mg-json", "audit", "start", *source, "--modality", "MG", "--json")

    def kept(self) -> None:
        """What the commands say of the node that has stopped, and what lies in its database."""
        self.reading("", self.node)
        mask = self._mask()
        shutil.copytree(self.node, self.out / "old" / "before")
        older = self.out / "old" / "0007"
        shutil.copytree(self.node, older)
        for path in older.glob("node.db*"):
            path.unlink()
        if self.old == self.out:
            self._python(_MIGRATED, str(self.tree), str(older / "node.db"))
            _copy_rows(self.node / "node.db", older / "node.db")
        self._save("database/rows", mask.database(self.node / "node.db", raw=False))
        self._save("database/schema", mask.schema(self.node / "node.db"))

    def upgraded(self) -> None:
        """The older version's database and one of the oldest schema, opened by this version."""
        for database in ("before", "0007"):
            folder = self.out / f"from-{database}"
            shutil.copytree(self.old / "old" / database, folder)
            text = (folder / "node.toml").read_text()
            (folder / "node.toml").write_text(text.replace(f'"{self.old}/', f'"{self.out}/'))
            self.commands.config = str(folder / "node.toml")
            self.run(f"from-{database}/upgrade", "db", "upgrade", "-c", str(folder / "node.toml"))
            rows = self._mask().database(folder / "node.db", raw=True)
            self._save(f"from-{database}/rows", rows)
            self._save(f"from-{database}/schema", self._mask().schema(folder / "node.db"))
            self.reading(f"from-{database}/", folder)

    def reading(self, prefix: str, folder: Path) -> None:
        """Every command that only reads the database of the node in ``folder``."""
        config = ("-c", str(folder / "node.toml"))
        for name, words in {
            "studies/all": ("studies",),
            "studies/flagged": ("studies", "--flagged", "--state", "delivered", "--limit", "5"),
            "quarantine/all": ("quarantine",),
            "status/stopped": ("status",),
            "proposals/all": ("proposals", "list"),
            "proposals/chosen": ("proposals", "list", "--source", "dates", "--state", "applied"),
            "monitor/all": ("monitor",),
            "monitor/station": ("monitor", "--by", "station"),
            "monitor/age": ("monitor", "--by", "age", "--weeks", "2"),
            "audit/list": ("audit", "list"),
            "model/compare": ("model", "compare"),
        }.items():
            self.both(f"{prefix}{name}", *words, *config)
        for study in (*inputs.SENT, "withheld"):
            self.both(f"{prefix}show/{study}", "show", inputs.uid(study), *config)
        for number in ("1", "2", "3", "4"):
            self.both(f"{prefix}audit/show-{number}", "audit", "show", number, *config)
            out = folder / f"audit-{number}"
            more = ("--with", "AccessionNumber", "--with", "PatientID") if number == "1" else ()
            self.run(f"{prefix}audit/report-{number}-json", "audit", "report", number, "--out",
                     str(out), *more, "--json", *config)  # fmt: skip
            for path in sorted(out.iterdir()) if out.is_dir() else ():
                text = path.read_text(errors="backslashreplace")
                self._save(f"{prefix}audit/report-{number}/{path.name}", text)

    def help(self) -> None:
        self.run("help/dicom-ai-node", "--help")
        self.run("help/version", "--version")
        for name in (*_names(self.commands.run("", "--help", save=False)), *GROUPS, "role"):
            self.run(f"help/{name}", name, "--help")
            if name in GROUPS:
                for command in _names(self.commands.run("", name, "--help", save=False)):
                    self.run(f"help/{name}-{command}", name, command, "--help")

    def errors(self) -> None:
        """Command lines that end with a no: what they say, and with which code."""
        bad = self.out / "bad"
        bad.mkdir()
        (bad / "empty").mkdir()
        (bad / "faulty.toml").write_text(
            "[node]\nport = 99999\nprot = 1\n[rules]\ndisabled = ['Z9']\n[fill]\n"
            "auto_accept = ['inference']\n[destinations.a]\nhost = 'x'\n[study]\nlate = 1\n"
        )
        (bad / "broken.toml").write_text("[node\nport = 1\n")
        (bad / "node.toml").write_text(
            '[storage]\nspool = "spool"\ndatabase = "sqlite:///none.db"\n'
        )
        shutil.copytree(self.tree / "models" / "chest-age-sex", bad / "bundle")
        (bad / "bundle" / "weights.safetensors").write_bytes(b"damaged")
        for number, words in enumerate(_ERRORS):
            self.run(f"errors/{number:02d}-{words.split(' ')[0]}", *words.split(" "))

    def _save(self, name: str, text: str) -> None:
        path = self.out / "formats" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _python(self, script: str, *words: str) -> str:
        command = [sys.executable, "-c", script, *words]
        env = {**self.env, "PYTHONPATH": str(self.tree)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def _mask(self) -> Mask:
        studies = (*inputs.FAULTS, *inputs.ODD, "nostudy", "withheld")
        studies += tuple(f"archive{n:03d}" for n in range(inputs.ARCHIVE_STUDIES))
        known = {inputs.uid(study, *more) for study in studies for more in ((), (1,), (2,))}
        known |= {inputs.uid(study, "series") for study in studies}
        return Mask({self.out: "OUT", self.old: "OUT", self.tree: "TREE"}, self.ports, known)

    @cached_property
    def pixels(self) -> list[inputs.Grey]:
        """Of a woman, of a man, and a lateral view: what the older side's demo sent."""
        pixels = inputs.small(inputs.demo_pixels(self.old / "demo" / "spool"))
        return [pixels[0], pixels[1], pixels[6]]

    def mask_all(self) -> None:
        """Add the DICOM files that were written and sent, and mask every text."""
        mask = self._mask()
        for path in sorted((self.out / "formats").rglob("*")):
            if path.is_file():
                path.write_text(mask.text(path.read_text()))
        shutil.rmtree(self.out / "formats" / "sent", ignore_errors=True)
        studies = {inputs.uid(name): name for name in (*inputs.FAULTS, *inputs.ODD, "withheld")}
        seen: Counter[str] = Counter()
        for path in sorted((self.out / "pacs").rglob("*.dcm")):
            header = dcmread(path, stop_before_pixels=True)
            study = studies[str(header.StudyInstanceUID)]
            name = f"{path.parent.name}-{study}-{header.Modality}-{header.SeriesNumber}"
            seen[name] += 1
            text = mask.dicom(path) + mask.pixels(path)
            self._save(f"sent/{name}-{seen[name]}", text)
        for folder in ("reports", "maps", "odd-maps", "score"):
            names = sorted(path for path in (self.out / folder).rglob("*") if path.is_file())
            for number, path in enumerate(names):
                if path.suffix == ".dcm":  # its own name is made of what it says
                    study = studies[str(dcmread(path).StudyInstanceUID)]
                    self._save(f"infer/{folder}-{study}", mask.dicom(path))
                else:
                    self._save(f"infer/{folder}-{number:02d}", f"{path.name} {mask.picture(path)}")


_ERRORS = (
    *("nothing", "studies --no-such-option", "show", "show 1.2.3", "show 1.2.3 --json"),
    *("infer", "infer nowhere", "infer bad/empty", "infer odd/text.txt --json"),
    *("check-header nowhere", "check-header bad/empty", "check-header odd/text.txt"),
    *("check-header headers/sound.dcm --format xml", "infer odd --sr odd/text.txt/sr"),
    *("check-config -c bad/nowhere.toml", "check-config -c bad/faulty.toml"),
    *("check-config -c bad/faulty.toml --json", "check-config -c bad/broken.toml"),
    *("serve -c bad/faulty.toml", "studies -c bad/node.toml", "status -c bad/node.toml"),
    *("status -c bad/node.toml --json", "proposals list -c bad/node.toml"),
    *("audit list -c bad/node.toml", "monitor -c bad/node.toml", "requeue", "requeue 1.2.3"),
    *("requeue 1.2.3 --dead", "echo pcas", "echo worklist", "audit show 99", "audit report 99"),
    *("audit report 99 --out bad/report", "audit pause 99", "audit resume 1", "audit cancel 1"),
    *("audit start --source folder:bad/empty", "audit start --source pacs:nowhere"),
    *("audit start --source what", "audit start --source folder:archive --from 2026"),
    *("audit start --source folder:archive --headers-only --pixels all", "proposals show 999"),
    *("proposals accept 999 --reason x", "proposals accept --reason x", "proposals accept 1"),
    *("proposals reject 1 --reason x", "proposals apply 999", "proposals apply"),
    *("proposals preview 1 --destination pcas", "proposals list --source nobody"),
    *("proposals accept --all --reason x --yes --source inference", "model show nowhere"),
    *("model verify bad/bundle", "model show bad/bundle", "model verify chest-age-sx"),
    *("infer headers/sound.dcm -c bad/broken.toml", "model export nowhere --onnx x.onnx"),
    *("model recalibrate --from bad/empty --out bad/none", "model recalibrate --out bad/none"),
    *("model recalibrate --from headers --out bad/none", "monitor --by nothing"),
    *("monitor --weeks 0", "monitor shadow --by x", "demo --images bad/empty", "db"),
    *("studies --since yesterday", "studies --state gone", "quarantine --limit 0", "stauts"),
)


def _names(helped: str) -> list[str]:
    """The commands that a help text lists."""
    lines = helped.partition("─ Commands ─")[2].splitlines()
    words = [line.removeprefix("│").removeprefix(" ") for line in lines if line.startswith("│ ")]
    return [word.split()[0] for word in words if word[:1].isalpha()]


def _copy_rows(newer: Path, older: Path) -> None:
    """Fill schema 0007 with the rows of a newer one, in the columns that both have.

    What observations name there has been rows of heads since schema 0011.
    """
    with sqlite3.connect(older) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("ATTACH ? AS newer", (str(newer),))
        query = "SELECT name FROM {}.sqlite_master WHERE type = 'table'"
        both = set(connection.execute(query.format("main"))) & set(
            connection.execute(query.format("newer"))
        )
        for (table,) in sorted(both):
            if table in ("alembic_version", "sqlite_sequence"):
                continue
            info = f'PRAGMA {{}}.table_info("{table}")'
            kept = {row[1] for row in connection.execute(info.format("newer"))}
            names = [row[1] for row in connection.execute(info.format("main"))]
            values = {name: f'"{name}"' for name in names if name in kept}
            if table == "observation" and "heads" in kept:
                values |= _BY_NAME
            connection.execute(f'DELETE FROM "{table}"')
            connection.execute(
                f'INSERT INTO "{table}" ({", ".join(values)}) '
                f'SELECT {", ".join(values.values())} FROM newer."{table}"'
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, help="root of the checkout whose formats are written")
    parser.add_argument("--out", type=Path, help="a new folder for them")
    parser.add_argument("--old", type=Path, help="folder of a run whose databases are upgraded")
    parser.add_argument("--skip", nargs="+", default=(), help="steps that --out has already")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"))
    parser.add_argument("--lines", type=int, default=12, help="of a difference, at most")
    options = parser.parse_args()
    if options.compare:
        sys.exit(compare(*options.compare, lines=options.lines))
    if options.tree is None or options.out is None:
        parser.error("--tree and --out, or --compare")
    options.out.mkdir(parents=True, exist_ok=bool(options.skip))
    Formats(options.tree, options.out, options.old).make(options.skip)


if __name__ == "__main__":
    main()
