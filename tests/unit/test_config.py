from pathlib import Path

import pytest

from dicom_ai_node.config import Config, load_config, parse_config
from dicom_ai_node.config.example import example
from dicom_ai_node.errors import ConfigError

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "node.toml"


def test_the_shipped_file_is_the_example_and_holds_the_defaults() -> None:
    assert SHIPPED.read_text() == example(), "run: dicom-ai-node check-config --example"
    assert load_config(SHIPPED) == parse_config({}, folder=SHIPPED.parent)
    assert parse_config({}) == Config()


def test_every_key_of_every_table_is_in_the_example() -> None:
    text = example()
    for table, field in Config.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"{key} = " in text or f"[[{table}.{key}]]" in text


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"receive\.max_pud: unknown key"):
        parse_config({"receive": {"max_pud": 65536}})


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(ConfigError, match="recieve: unknown key"):
        parse_config({"recieve": {}})


@pytest.mark.parametrize(
    ("table", "key", "value", "says"),
    [
        ("node", "port", 70000, r"node\.port = 70000: .*65535"),
        ("node", "ae_title", "SEVENTEEN_LETTERS", r"node\.ae_title = 'SEVENTEEN_LETTERS'.*16"),
        ("study", "late_policy", "drop", r"study\.late_policy = 'drop': .*'reopen' or 'keep'"),
        ("policy", "analyse", "some", r"policy\.analyse = 'some': .*'flagged' or 'all'"),
        ("rules", "disabled", ["Z9"], r"rules\.disabled.*Z9"),
        ("fill", "auto_accept", ["dates", "inference"], r"fill\.auto_accept.*a person's decision"),
        ("fill", "auto_accept", ["hl7"], r"fill\.auto_accept.*'header', 'dates', 'worklist'"),
        ("fill", "min_sex_certainty", 0.4, r"fill\.min_sex_certainty = 0\.4.*0\.5"),
        ("storage", "database", "mysql://x", r"storage\.database.*postgresql\+psycopg"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(
    table: str, key: str, value: object, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config({table: {key: value}})


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"node": {"port": 0}, "study": {"quiet_seconds": -1}})
    assert "2 fault(s)" in str(caught.value)
    assert "study.quiet_seconds" in str(caught.value)


def test_a_password_in_the_database_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"storage": {"database": "mysql://user:secret@host/db"}})
    assert "secret" not in str(caught.value)


PACS = {"kind": "pacs", "host": "h", "port": 104, "ae_title": "PACS"}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (PACS | {"port": 0}, r"sources\.main\.port = 0: .*greater than or equal to 1"),
        (PACS | {"move_prot": 1}, r"sources\.main\.move_prot: unknown key"),
        (PACS | {"kind": "pax"}, r"sources\.main: .*'pax'.*'pacs', 'web'"),
        ({"kind": "web", "url": "ftp://h"}, r"sources\.main\.url: "),
    ],
)
def test_a_bad_source_is_named_by_its_key(source: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config({"sources": {"main": source}})


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "web", "url": "https://user:secret@host/dicom-web"},
        {"kind": "web", "url": "https://h", "headers": {"Authorization": "Bearer secret"}},
    ],
)
def test_a_password_written_into_a_source_is_refused_and_not_repeated(
    source: dict[str, object],
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"sources": {"main": source}})
    assert "secret" not in str(caught.value)


def test_the_environment_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[receive]\nmax_pdu = 16384\nprocesses = 3\n")
    monkeypatch.setenv("DICOM_AI_NODE_RECEIVE__MAX_PDU", "65536")
    config = load_config(file)
    assert (config.receive.max_pdu, config.receive.processes) == (65536, 3)


def test_a_destination_that_wants_captures_needs_them_made() -> None:
    pacs = {"host": "h", "port": 104, "ae_title": "PACS", "send": ["sr", "sc"]}
    with pytest.raises(ConfigError, match="secondary_capture = true"):
        parse_config({"destinations": {"pacs": pacs}})
    config = parse_config({"destinations": {"pacs": pacs}, "report": {"secondary_capture": True}})
    assert config.destinations["pacs"].send == ("sr", "sc")


def test_a_destination_that_wants_saliency_maps_needs_them_made() -> None:
    pacs = {"host": "h", "port": 104, "ae_title": "PACS", "send": ["sr", "saliency"]}
    with pytest.raises(ConfigError, match=r"set report\.saliency to 'grad-cam' or 'score-cam'"):
        parse_config({"destinations": {"pacs": pacs}})
    config = parse_config({"destinations": {"pacs": pacs}, "report": {"saliency": "score-cam"}})
    assert config.destinations["pacs"].send == ("sr", "saliency")


def gateway(fill: dict[str, object], **forward: str) -> Config:
    pacs = {"host": "h", "port": 104, "ae_title": "PACS"}
    destinations = {name: pacs | {"forward": mode} for name, mode in forward.items()}
    return parse_config({"destinations": destinations, "fill": fill})


@pytest.mark.parametrize(
    ("fill", "forward", "says"),
    [
        (
            {},
            {"pacs": "all"},
            r"destinations\.pacs\.forward = 'all'.*'none', 'received' or 'coerced'",
        ),
        ({}, {"pacs": "coerced"}, r"list a source such as 'dates'"),
        ({"auto_accept": ["dates"], "propose": False}, {"pacs": "coerced"}, r"propose = true"),
        (
            {"auto_accept": ["dates"]},
            {"pacs": "coerced", "second": "received"},
            r"destinations\.second\.forward = 'received': one UID would stand for two versions",
        ),
        (
            {"auto_accept": ["dates"], "forward_within_seconds": 30},
            {"pacs": "coerced"},
            r"forward_within_seconds = 30 must be more than study\.quiet_seconds = 30",
        ),
    ],
)
def test_a_gateway_that_makes_no_sense_is_refused(
    fill: dict[str, object], forward: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        gateway(fill, **forward)


def test_a_gateway_forwards_to_those_that_ask_for_it() -> None:
    assert list(gateway({}, pacs="received", second="received", third="none").forwarding) == [
        "pacs",
        "second",
    ]
    assert list(gateway({"auto_accept": ["dates"]}, pacs="coerced").forwarding) == ["pacs"]
    assert Config().forwarding == {}


def test_a_file_that_is_missing_or_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load_config(tmp_path / "nowhere.toml")
    file = tmp_path / "bad.toml"
    file.write_text("[node\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file"):
        load_config(file)
