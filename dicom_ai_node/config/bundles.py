"""Which bundles a configuration names, where they lie, and which SOP classes they look at.

Of a manifest only the route is read, as JSON: the receiver asks here what is analysed, and has no
use for a network.
"""

import json
from pathlib import Path

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
    for folder in reporting_bundles(model):
        file = folder / "manifest.json"
        try:
            found |= {*map(str, json.loads(file.read_bytes())["accepts"]["sop_classes"])}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BundleError(f"{file}: expected a manifest with accepts.sop_classes") from error
    return frozenset(found - FILED_ONLY)
