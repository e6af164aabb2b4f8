"""Multipart answers of WADO-RS, legal and not."""

import pytest

from dicom_ai_node.audit.sources.dicomweb_client import files_in

FILE = b"\0" * 128 + b"DICM" + b"\r\n\r\nA\r\n--other\r\n\n--\r" + bytes(range(256)) + b"\r"
TYPE = 'multipart/related; type="application/dicom"; boundary='
HEADERS = b"Content-Type: application/dicom\r\n\r\n"


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        ("x", b"--x\r\n" + HEADERS + FILE + b"\r\n--x--"),
        ("x", b"--x\r\n" + HEADERS + FILE + b"\r\n--x--\r\n"),
        ("x", b"This is a preamble.\r\nOf two lines.\r\n--x\r\n" + HEADERS + FILE + b"\r\n--x--"),
        ("x", b"\r\n--x\r\n" + HEADERS + FILE + b"\r\n--x--\r\nAn epilogue.\r\n\r\n" + FILE),
        ("x", b"--x  \t\r\n" + HEADERS + FILE + b"\r\n--x-- "),
        ("x", b"--x\r\n\r\n" + FILE + b"\r\n--x--"),
        ("x", b"--x\r\n" + FILE + b"\r\n--x--"),
        ("x", b"--x\n" + HEADERS.replace(b"\r", b"") + FILE + b"\n--x--\n"),
        ("x", b"--x\r\n" + HEADERS + FILE),
        ('"a b;c=d"', b"--a b;c=d\r\n" + HEADERS + FILE + b"\r\n--a b;c=d--"),
        ("'x'", b"--'x'\r\n" + HEADERS + FILE + b"\r\n--'x'--"),
        ("(.*)", b"--(.*)\r\n" + HEADERS + FILE + b"\r\n--(.*)--"),
        ("x; charset=utf-8", b"--x\r\n" + HEADERS + FILE + b"\r\n--x--"),
        ("", b"--unnamed\r\n" + HEADERS + FILE + b"\r\n--unnamed--"),
        ("other", FILE),
    ],
)
def test_the_file_comes_byte_for_byte(boundary: str, body: bytes) -> None:
    assert files_in(TYPE + boundary, body) == [FILE]


def test_every_part_that_is_a_file_is_given() -> None:
    note = b"Content-Type: text/plain\r\n\r\nno file"
    parts = [HEADERS + FILE, note, HEADERS + FILE + b"2"]
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--"
    assert files_in(TYPE + "x", body) == [FILE, FILE + b"2"]


@pytest.mark.parametrize("kind", ["application/dicom", "application/octet-stream", "", "a;b=c;;"])
def test_a_file_without_a_message_is_one(kind: str) -> None:
    assert files_in(kind, FILE) == [FILE]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"--x--", b"--x\r\n", b"--y\r\n" + HEADERS + FILE, b"\xff" * 200]
)
def test_what_is_no_file_is_none(body: bytes) -> None:
    assert files_in(TYPE + "x", body) == []
