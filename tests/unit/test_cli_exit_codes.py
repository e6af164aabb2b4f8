"""How every command ends: the table of exit codes in docs/formats.md."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from dicom_ai_node import cli
from dicom_ai_node.analyse import headers
from dicom_ai_node.cli import app, main
from dicom_ai_node.errors import ExitCode
from dicom_ai_node.store import Database
from dicom_ai_node.store import queries as study_queries
from tests.builders.dicom_bytes import AGE, UIDS, data_set, dicom_file

ROOT = Path(__file__).resolve().parents[2]
CODES = ROOT / "docs" / "formats.md"
Said = pytest.CaptureFixture[str]


def commands(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command there is, as it is typed."""
    for name, entry in group.commands.items():
        command = entry.parsed() if hasattr(entry, "parsed") else entry
        if getattr(command, "commands", None):
            yield from commands(command, *path, name)
            if command.invoke_without_command:
                yield (*path, name)
        else:
            yield (*path, name)


COMMANDS = sorted(commands(typer.main.get_command(app)))
NEEDS_DATABASE = {
    ("audit", "cancel"): ("1",),
    ("audit", "list"): (),
    ("audit", "pause"): ("1",),
    ("audit", "report"): ("1", "--out", "report"),
    ("audit", "resume"): ("1",),
    ("audit", "show"): ("1",),
    ("audit", "start"): ("--source", "folder:."),
    ("model", "compare"): (),
    ("monitor",): (),
    ("monitor", "resume"): ("--by", "A", "--reason", "B"),
    ("monitor", "shadow"): ("--by", "A", "--reason", "B"),
    ("proposals", "accept"): ("1", "--reason", "B"),
    ("proposals", "apply"): ("1",),
    ("proposals", "list"): (),
    ("proposals", "preview"): ("1", "--destination", "pacs"),
    ("proposals", "reject"): ("1", "--reason", "B"),
    ("proposals", "show"): ("1",),
    ("quarantine",): (),
    ("requeue",): ("1.2.3",),
    ("show",): ("1.2.3",),
    ("studies",): (),
}
"""Commands that look into the database, with arguments that need nothing else."""
UNKNOWN = [
    ("show", "1.2.3"),
    ("requeue", "1.2.3"),
    *(("audit", name, "7") for name in ("show", "pause", "cancel", "resume")),
    ("audit", "report", "7", "--out", "report"),
    *(("proposals", name, "7") for name in ("show", "apply")),
    *(("proposals", name, "7", "--reason", "B") for name in ("accept", "reject")),
    ("proposals", "preview", "7", "--destination", "pacs"),
    ("model", "compare"),
    ("model", "show", "nowhere"),
    ("model", "verify", "nowhere"),
    ("model", "export", "nowhere", "--onnx", "x.onnx"),
    ("check-header", "nowhere"),
    ("check-header", "empty"),
    ("check-header", "texts"),
    ("infer", "empty"),
    ("audit", "start", "--source", "folder:texts", "--headers-only"),
    ("audit", "start", "--source", "folder:texts", "--dry-run"),
    ("audit", "start", "--source", "folder:texts", "--dry-run", "--json"),
    ("echo", "pacs"),
    ("echo", "pacs:archive"),
    ("echo", "web"),
    ("echo", "worklist"),
    ("status",),
    ("demo", "--images", "empty"),
]
"""What is asked for is not there, or answers no."""
WRONG = [
    ("echo", "pcas"),
    ("audit", "start", "--source", "pacs:nowhere"),
    ("audit", "start", "--source", "folder:nowhere"),
    ("requeue",),
    ("infer", "texts", "--sr", "texts/a.txt/sr"),
    ("infer", "texts", "--saliency", "texts/a.txt/maps"),
    ("audit", "report", "1", "--out", "texts/a.txt/report"),
    ("model", "recalibrate", "--from", "empty", "--out", "texts/a.txt/bundle"),
    ("proposals", "preview", "1", "--destination", "pcas"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node without a database, in the working directory."""
    for name in ("empty", "texts"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    peer = 'host = "127.0.0.1"\nport = 9\nae_title = "PEER"\ntimeout = 2\n'
    (tmp_path / "node.toml").write_text(
        f"[destinations.pacs]\n{peer}"
        f'[sources.archive]\nkind = "pacs"\n{peer}'
        '[sources.web]\nkind = "web"\nurl = "http://127.0.0.1:9"\ntimeout = 2\n'
        f"[worklist]\n{peer}"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DICOM_AI_NODE_CONFIG", "node.toml")
    return tmp_path


@pytest.fixture
def node(folder: Path) -> Path:
    """A node with an empty database."""
    db = Database(f"sqlite:///{folder / 'var' / 'node.db'}")
    db.upgrade()
    db.close()
    return folder


def ends(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dicom-ai-node", *arguments])
    before = os.umask(0o022)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        os.umask(before)
    return int(ended.value.code or 0)


def test_the_table_has_every_code() -> None:
    table = CODES.read_text().partition("## Exit codes")[2]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows[1:] == [str(code.value) for code in ExitCode]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_done_and_a_wrong_option_is_a_wrong_command_line(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert ends(monkeypatch, *command, "--help") == ExitCode.DONE
    if command != ("role",):  # hidden: 'serve' starts these
        assert f"Example: dicom-ai-node {' '.join(command)}" in capsys.readouterr().out
    assert ends(monkeypatch, *command, "--no-such-option") == ExitCode.USAGE
    assert "--no-such-option" in capsys.readouterr().err


def test_a_group_shows_the_first_line_of_each_command() -> None:
    def entries(group: Any) -> Iterator[Any]:
        for entry in group.commands.values():
            yield from entries(entry) if hasattr(entry, "commands") else (entry,)

    for entry in entries(typer.main.get_command(app)):
        if not entry.hidden:
            paragraph = entry.parsed().help.partition("\n\n")[0]
            assert entry.help == " ".join(paragraph.split())


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert ends(monkeypatch, "--version") == ExitCode.DONE
    assert capsys.readouterr().out.startswith("dicom-ai-node 0.")


def test_every_command_that_opens_the_database_is_tried_without_it() -> None:
    without = {("check-config",), ("check-header",), ("db", "upgrade"), ("demo",), ("echo",)}
    without |= {("infer",), ("role",), ("serve",), ("status",)}
    without |= {("model", name) for name in ("export", "list", "recalibrate", "show")}
    assert set(COMMANDS) == set(NEEDS_DATABASE) | without | {("model", "verify")}


@pytest.mark.parametrize("command", sorted(NEEDS_DATABASE), ids=" ".join)
def test_without_a_database_it_is_storage(
    command: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert ends(monkeypatch, *command, *NEEDS_DATABASE[command]) == ExitCode.STORAGE
    said = capsys.readouterr().err
    assert said.startswith(f"error: no database at {folder}/var/node.db")
    assert said.endswith(f"configuration: {folder}/node.toml\n")


@pytest.mark.parametrize("arguments", UNKNOWN, ids=" ".join)
def test_what_is_not_there_is_a_no(
    arguments: tuple[str, ...], node: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert ends(monkeypatch, *arguments) == ExitCode.NO, capsys.readouterr().err


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_name_or_place_is_a_wrong_command_line(
    arguments: tuple[str, ...], node: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert ends(monkeypatch, *arguments) == ExitCode.USAGE, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("echo", "pcas"), "did you mean 'pacs'?"),
        (("echo", "archiv"), "did you mean 'archive'?"),
        (("proposals", "preview", "1", "--destination", "PACS"), "did you mean 'pacs'?"),
        (("audit", "start", "--source", "pacs:archvie"), "did you mean 'pacs:archive'?"),
        (("model", "verify", "chest-age-sx"), "did you mean 'chest-age-sex'?"),
        (("stauts",), "Did you mean 'status'"),
    ],
)
def test_the_nearest_name_is_offered(
    arguments: tuple[str, ...], hint: str, node: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    ends(monkeypatch, *arguments)
    assert hint in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "command",
    [
        ("serve",),
        ("status",),
        ("check-config",),
        ("echo", "pacs"),
        ("db", "upgrade"),
        *((*command, *rest) for command, rest in sorted(NEEDS_DATABASE.items())),
    ],
    ids=" ".join,
)
def test_without_a_configuration_it_is_a_wrong_command_line(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DICOM_AI_NODE_CONFIG", "nowhere/node.toml")
    assert ends(monkeypatch, *command) == ExitCode.USAGE
    assert "nowhere/node.toml: cannot be read" in capsys.readouterr().err


def test_what_was_done_is_said_when_it_is_interrupted(
    node: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    for name in "abc":
        content = dicom_file(data_set({**UIDS, AGE: ("AS", b"066Y")}))
        (node / "texts" / f"{name}.dcm").write_bytes(content)
    check = headers.check_file

    def interrupted(path: Path, *rest: Any, **more: Any) -> dict[str, Any]:
        if path.name == "b.dcm":
            raise KeyboardInterrupt
        return check(path, *rest, **more)

    monkeypatch.setattr(headers, "check_file", interrupted)
    assert ends(monkeypatch, "check-header", "texts") == ExitCode.INTERRUPTED
    said = capsys.readouterr()
    assert "a.dcm" in said.out
    assert said.err == "error: interrupted: 2 of 4 files are checked\n"


def test_what_a_command_writes_is_for_its_user_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    def ended(code: int) -> int:
        (folder / "plain").touch()
        return code

    monkeypatch.setattr(cli, "_flushed", ended)
    assert ends(monkeypatch, "db", "upgrade") == ExitCode.DONE
    assert stat.S_IMODE((folder / "plain").stat().st_mode) == 0o600, "the umask of every command"
    made = [one for one in (folder / "var").iterdir() if one.is_file()]
    assert {stat.S_IMODE(one.stat().st_mode) for one in made} == {0o600}
    assert stat.S_IMODE((folder / "var").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt, ExitCode.INTERRUPTED), (BrokenPipeError, ExitCode.CLOSED_PIPE)],
)
def test_no_command_ends_in_a_traceback(
    raised: type[BaseException], code: ExitCode, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(study_queries, "find", ended)
    monkeypatch.setattr("dicom_ai_node.cli.studies.find", ended)
    monkeypatch.setattr(cli, "silence_output", lambda: None)
    assert ends(monkeypatch, "studies") == code
