"""The HTTP below a DICOMweb source: dicomweb-client, and each of its failures in words."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset

from dicom_ai_node.config.sources import WebTable
from dicom_ai_node.errors import ConfigError, PeerRefused, PeerUnavailable

_T = TypeVar("_T")
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_AS_STORED = (("application/dicom", "*"),)


class WebService:
    """QIDO-RS and WADO-RS (PS3.18 10.4 and 10.6) with errors that name no patient.

    Every method raises PeerUnavailable (no connection, no answer, try later) or PeerRefused, whose
    ``status`` is that of HTTP, 0 for an answer that cannot be understood.
    """

    def __init__(self, table: WebTable) -> None:
        for name in ("dicomweb_client", "urllib3"):  # they log URLs, which name studies
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._where = urlsplit(table.url).netloc
        self._timeout = table.timeout
        self._session = requests.Session()
        # Neither a .netrc nor a proxy of the environment: the configuration alone says whom to ask.
        self._session.trust_env = False
        if table.ca_file:
            self._session.verify = table.ca_file
        headers = {name: _secret(name, place) for name, place in table.headers.items()}
        self._client = DICOMwebClient(
            table.url.rstrip("/"),
            session=self._session,
            headers=headers,
            permissive_uid=True,
            timeout=table.timeout,
        )
        self._client.set_http_retry_params(retry=False)

    def studies(
        self, filters: Mapping[str, str], fields: list[str], *, limit: int, offset: int
    ) -> list[Mapping[str, Any]]:
        """Return one page of the studies that match."""
        return self._objects(
            "QIDO-RS",
            lambda: self._client.search_for_studies(
                search_filters=dict(filters), fields=fields, limit=limit, offset=offset
            ),
        )

    def metadata(self, study: str) -> list[Mapping[str, Any]]:
        """Return the headers of all instances of a study."""
        return self._objects(
            "WADO-RS metadata", lambda: self._client.retrieve_study_metadata(study)
        )

    def instance(self, study: str, series: str, instance: str) -> bytes:
        """Return the file of one instance in the transfer syntax in which it is kept."""

        def ask() -> bytes:
            found: Dataset = self._client.retrieve_instance(
                study, series, instance, media_types=_AS_STORED
            )
            # What came, which to write anew would be to alter.
            return bytes(found.buffer.getvalue())

        return self._ask("WADO-RS", ask)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _objects(self, what: str, ask: Callable[[], Any]) -> list[Mapping[str, Any]]:
        found = self._ask(what, ask)
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise PeerRefused(0, f"{self._where} answered {what} with other JSON than DICOM's")
        return found

    def _ask(self, what: str, ask: Callable[[], _T]) -> _T:
        # Messages of requests hold the URL, which names the study.
        try:
            return ask()
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            text = f"{self._where} answered {what} with HTTP {status}"
            if status in _LATER:
                raise PeerUnavailable(text) from None
            raise PeerRefused(status, text) from None
        except json.JSONDecodeError:
            raise PeerRefused(0, f"{self._where} answered {what} with what is no JSON") from None
        except requests.Timeout:
            text = f"{self._where} gave no answer to {what} within {self._timeout:g} s"
            raise PeerUnavailable(text) from None
        except requests.RequestException as error:
            text = f"{self._where}: {what} failed ({type(error).__name__})"
            raise PeerUnavailable(text) from None
        except Exception as error:  # noqa: BLE001
            # The client raises anything over an answer that it does not expect.
            text = f"{self._where} answered {what} with something else ({type(error).__name__})"
            raise PeerRefused(0, text) from None


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
