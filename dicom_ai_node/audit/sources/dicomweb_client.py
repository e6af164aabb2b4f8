"""The HTTP below a DICOMweb source: three requests, and each failure of theirs in words.

Made of requests alone: a client library that refuses legal multipart messages, and that hides the
status and the headers of an answer, hides what an archive says of it.

In multipart messages (RFC 2046 5.1) services send what is legal and rare: text before the first
part and after the last, a quoted boundary, blanks behind it, parts without headers. And what is not
legal: lines that end in LF alone, no closing boundary, a file without any message around it.
"""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from dicom_ai_node.config.peers import WebTable
from dicom_ai_node.dicom.part10 import is_part10
from dicom_ai_node.errors import ConfigError, PeerRefused, PeerUnavailable

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_JSON = "application/dicom+json, application/json"
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_MORE = re.compile(r"\b299\b.*\badditional results\b", re.IGNORECASE)
"""The Warning of an answer that leaves matches out (PS3.18 8.3.4.4)."""


@dataclass(frozen=True, slots=True)
class MatchPage:
    """One answer to a query: some of the objects that match."""

    objects: Sequence[Mapping[str, Any]]
    more: bool
    """Whether the service said that there are more."""


class WebService:
    """QIDO-RS and WADO-RS (PS3.18 10.4 and 10.6) with errors that name no patient.

    Every method raises PeerUnavailable (no connection, no answer, try later) or PeerRefused, whose
    ``status`` is that of HTTP, 0 for an answer that cannot be understood.
    """

    def __init__(self, table: WebTable) -> None:
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it logs URLs, which name studies
        self._root = table.url.rstrip("/")
        self._where = urlsplit(table.url).netloc
        self._timeout = table.timeout
        self._session = requests.Session()
        # Neither a .netrc nor a proxy of the environment: the configuration alone says whom to ask.
        self._session.trust_env = False
        if table.ca_file:
            self._session.verify = table.ca_file
        for name, place in table.headers.items():
            self._session.headers[name] = _secret(name, place)

    def studies(
        self, filters: Mapping[str, str], fields: Sequence[str], *, limit: int, offset: int
    ) -> MatchPage:
        """Return one page of the studies that match."""
        fields_asked = [("includefield", field) for field in fields]
        query = [*filters.items(), *fields_asked, ("limit", str(limit)), ("offset", str(offset))]
        answer = self._get("QIDO-RS", "/studies", _JSON, query)
        return MatchPage(
            self._objects("QIDO-RS", answer), bool(_MORE.search(answer.headers.get("Warning", "")))
        )

    def series(self, study: str) -> Sequence[Mapping[str, Any]]:
        """Return the series of a study."""
        what = "QIDO-RS for series"
        return self._objects(what, self._get(what, f"/studies/{study}/series", _JSON))

    def metadata(self, study: str) -> Sequence[Mapping[str, Any]]:
        """Return the headers of all instances of a study."""
        what = "WADO-RS metadata"
        return self._objects(what, self._get(what, f"/studies/{study}/metadata", _JSON))

    def instance(self, study: str, series: str, instance: str) -> list[bytes]:
        """Return the file of one instance as it is stored; more where the service sends more."""
        path = f"/studies/{study}/series/{series}/instances/{instance}"
        answer = self._get("WADO-RS", path, _AS_STORED)
        files = files_in(answer.headers.get("Content-Type", ""), answer.content)
        if not files:
            raise PeerRefused(0, f"{self._where} answered WADO-RS with something else than a file")
        return files

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _objects(self, what: str, answer: requests.Response) -> Sequence[Mapping[str, Any]]:
        if not answer.content.strip():
            return []
        try:
            found = json.loads(answer.content)
        except ValueError:
            raise PeerRefused(0, f"{self._where} answered {what} with what is no JSON") from None
        if found is None:
            return []
        if isinstance(found, Mapping) and any(map(_TAG.fullmatch, found)):
            found = [found]  # one match, without its list: the message of a server has no tags
        if not isinstance(found, list) or not all(
            isinstance(dataset, Mapping) for dataset in found
        ):
            raise PeerRefused(0, f"{self._where} answered {what} with other JSON than DICOM's")
        # Tags are in upper case (PS3.18 F.2.2), and not all services write them so.
        return [{tag.upper(): dataset[tag] for tag in dataset} for dataset in found]

    def _get(
        self, what: str, path: str, accept: str, query: Sequence[tuple[str, str]] = ()
    ) -> requests.Response:
        # Messages of requests hold the URL, which names the study.
        try:
            answer = self._session.get(
                self._root + path,
                params=list(query),
                headers={"Accept": accept},
                timeout=self._timeout,
            )
        except requests.Timeout:
            text = f"{self._where} gave no answer to {what} within {self._timeout:g} s"
            raise PeerUnavailable(text) from None
        except requests.RequestException as error:
            text = f"{self._where}: {what} failed ({type(error).__name__})"
            raise PeerUnavailable(text) from None
        status = answer.status_code
        if 200 <= status < 300:
            return answer
        text = f"{self._where} answered {what} with HTTP {status}"
        if status in _LATER:
            raise PeerUnavailable(text)
        raise PeerRefused(status, text)


def _secret(header: str, place: str) -> str:
    """Return the value of an HTTP header from where the configuration says it is."""
    kind, _, name = place.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise ConfigError(f"headers.{header}: the environment has no variable {name}")
        return value
    try:
        value = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"headers.{header}: {name} cannot be read") from error
    if not value:
        raise ConfigError(f"headers.{header}: {name} is empty")
    return value


def files_in(content_type: str, body: bytes) -> list[bytes]:
    """Return every DICOM file (PS3.10) in the body of an answer; none where there is none."""
    if is_part10(body):
        return [body]
    boundary = _boundary(content_type, body)
    parts = _parts(boundary, body) if boundary else []
    return [part for part in parts if is_part10(part)]


def _boundary(content_type: str, body: bytes) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    named = header.get_boundary()
    if named:
        return named.encode("latin_1", "replace")
    # A service that says multipart without a boundary begins with it.
    found = re.match(rb"\s*--([^\r\n]{1,70})\r?\n", body)
    return found[1].rstrip() if found else b""


def _parts(boundary: bytes, body: bytes) -> list[bytes]:
    mark = re.escape(b"--" + boundary)
    first = re.search(rb"(?:\A|\n)" + mark + rb"[ \t]*(\r?\n)", body)
    if first is None:
        return []
    # The line end before a boundary belongs to the boundary: which it is says the first one.
    end = first[1]
    between = re.compile(end + mark + rb"(?=--|[ \t]*\r?\n|[ \t]*\Z)")
    found = []
    for piece in between.split(body[first.end() - len(end) :]):
        if piece.startswith(b"--"):  # the closing boundary: what follows is no part
            break
        found.append(_content(piece))
    return found


def _content(piece: bytes) -> bytes:
    """Return a part without its headers, which an empty line ends; without any where none are."""
    bare = re.sub(rb"\A[ \t]*\r?\n", b"", piece, count=1)
    if is_part10(bare):
        return bare
    found = re.search(rb"\r?\n\r?\n", piece)
    return piece[found.end() :] if found else b""
