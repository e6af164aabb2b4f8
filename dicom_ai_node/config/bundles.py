"""Which bundles a configuration names, where they lie, and which SOP classes they look at.

Of a manifest only the route is read, as JSON: the receiver asks here what is analysed, and has no
use for a network.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dicom_ai_node.config.paths import models_folder, shipped_bundles
from dicom_ai_node.config.processes import ModelSettings
from dicom_ai_node.dicom.classes import ANALYSABLE, FILED_ONLY
from dicom_ai_node.errors import BundleError, ConfigError, did_you_mean

_DEFAULT = "chest-age-sex"


def default_bundle() -> Path:
    """Folder of the bundle that is used unless the configuration names another."""
    return models_folder() / _DEFAULT


def resolve_bundle(name: str) -> Path:
    """Return the bundle that a configuration names: ``default``, a shipped one, or a folder.

    Raises BundleError: when there is none of that name.
    """
    if name == "default":
        return default_bundle()
    shipped = shipped_bundles()
    if name in shipped:
        return shipped[name]
    if Path(name).is_dir():
        return Path(name)
    known = ", ".join(shipped)
    hint = did_you_mean(Path(name).name, ["default", *shipped])
    raise BundleError(
        f"no model bundle {name!r}{hint}: expected a folder, 'default', or one of: {known}"
    )


def reporting_bundles(model: ModelSettings) -> list[Path]:
    """Return the bundles whose answers are reported, the first one first.

    Raises BundleError: there is no ``model.bundle``; ConfigError: none of those further.
    """
    return [resolve_bundle(model.bundle), *map(_further, model.further)]


def _further(name: str) -> Path:
    try:
        return resolve_bundle(name)
    except BundleError as error:
        raise ConfigError(f"model.further: {error}") from error


def analysed_classes(model: ModelSettings) -> frozenset[str]:
    """Return the SOP classes whose instances are analysed, by their headers at least.

    Radiographs and captures always are; what a bundle's route adds is, too. Structured Reports and
    captures of several frames are filed and no more, whatever a route says.

    Raises BundleError or ConfigError: a bundle is not there, or its manifest cannot be read.
    """
    found = set(map(str, ANALYSABLE))
    for route in _routes(model):
        found |= route.sop_classes
    return frozenset(found - FILED_ONLY)


def analysed_modalities(model: ModelSettings) -> tuple[str, ...]:
    """Return values of Modality whose images are analysed: what an audit lists.

    CR and DX, and those of routes to other classes than radiographs and captures.

    Raises BundleError or ConfigError: as :func:`analysed_classes`.
    """
    others = [route for route in _routes(model) if route.sop_classes - ANALYSABLE - FILED_ONLY]
    named = (modality for route in others for modality in route.modalities if modality)
    return tuple(dict.fromkeys(("CR", "DX", *named)))


class _Route(NamedTuple):
    sop_classes: frozenset[str]
    modalities: tuple[str, ...]


def _routes(model: ModelSettings) -> Iterator[_Route]:
    for folder in reporting_bundles(model):
        file = folder / "manifest.json"
        try:
            accepts = json.loads(file.read_bytes())["accepts"]
            classes, modalities = accepts["sop_classes"], accepts["modalities"]
            yield _Route(frozenset(map(str, classes)), tuple(map(str, modalities)))
        except (OSError, ValueError, LookupError, TypeError) as error:
            expected = "expected a manifest with accepts.sop_classes and accepts.modalities"
            raise BundleError(f"{file}: {expected}") from error
