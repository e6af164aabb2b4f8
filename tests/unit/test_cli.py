"""What all commands share: faults in words, and what ``check-config`` says is in force."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_ai_node.cli import app, main
from dicom_ai_node.config import load_config
from dicom_ai_node.errors import ConfigError


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Put back what ``db upgrade`` sets for its process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_a_place_that_cannot_be_written_is_named_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    config = written(tmp_path, f'[storage]\ndatabase = "sqlite:///{tmp_path}/taken/node.db"\n')
    monkeypatch.setattr(sys, "argv", ["dicom-ai-node", "db", "upgrade", "-c", str(config)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith(f"error: database {tmp_path}/taken/node.db: cannot be made: ")
    assert said.endswith(f"configuration: {config}\n")


def test_a_new_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    config = written(tmp_path, f'[storage]\ndatabase = "sqlite:///{tmp_path}/var/node.db"\n')
    done = CliRunner().invoke(app, ["db", "upgrade", "-c", str(config)])
    assert (done.exit_code, done.output.startswith("schema empty -> ")) == (0, True)
    assert stat.S_IMODE((tmp_path / "var" / "node.db").stat().st_mode) == 0o600


def test_check_config_says_what_each_destination_gets(tmp_path: Path) -> None:
    peer = 'host = "h"\nport = 104\nae_title = "A"\n'
    config = written(
        tmp_path,
        f"[destinations.pacs]\n{peer}"
        f'[destinations.study]\n{peer}send = []\nfill = "inferred"\nresearch = true\n'
        f'[destinations.vna]\n{peer}send = []\nforward = "received"\n'
        f"[destinations.idle]\n{peer}send = []\n"
        f'[sources.main]\nkind = "pacs"\n{peer}'
        f"[worklist]\n{peer}",
    )
    said = CliRunner().invoke(app, ["check-config", "-c", str(config)]).output.splitlines()
    assert "to pacs, A at h:104: sr" in said
    assert "to study, A at h:104: filled copies (inferred, research)" in said
    assert "to vna, A at h:104: the received images (received)" in said
    assert "to idle, A at h:104: nothing" in said
    assert "can be audited: pacs:main" in said
    assert "the worklist is asked: A at h:104" in said


def test_help_loses_nothing_to_markup() -> None:
    """Brackets and examples stand in the help as they do in the source."""

    def help_of(*command: str) -> str:
        said = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output
        return " ".join(said.replace("│", " ").split())

    assert "[audit] of the configuration" in help_of("audit", "start")
    assert "[fill] auto_apply" in help_of("proposals", "list")
    assert "UID-age.png" in help_of("infer")
    assert "Example: dicom-ai-node monitor --by station" in help_of("monitor")


@pytest.mark.parametrize(
    ("bind", "receive", "warned", "who"),
    [
        ("0.0.0.0", "", True, "callers: this machine"),
        ("::", "", True, "callers: this machine"),
        ("127.0.0.1", "", False, "callers: this machine"),
        ("::1", "", False, "callers: this machine"),
        ("0.0.0.0", "[receive]\nanybody = true\n", False, "callers: everybody"),
        ("0.0.0.0", '[[receive.callers]]\nae_title = "CR1"\n', False, "callers: CR1"),
    ],
)
def test_check_config_warns_where_nobody_else_may_send(
    tmp_path: Path, bind: str, receive: str, warned: bool, who: str
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nbind = "{bind}"\n{receive}')
    said = CliRunner().invoke(app, ["check-config", "-c", str(config)]).output
    assert who in said
    assert ("receive.anybody = true" in said) is warned


def test_a_list_and_anybody_contradict_each_other(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[receive]\nanybody = true\n[[receive.callers]]\nae_title = "CR1"\n')
    with pytest.raises(ConfigError, match="anybody = true and callers"):
        load_config(config)
