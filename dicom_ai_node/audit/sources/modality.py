"""What a value of Modality or ModalitiesInStudy says (PS3.3 C.7.3.1.1.1), however it is written.

Archives and consoles write ``cr``, ``CR/SR`` or ``CR,SR``, pad with NUL and blanks of every kind,
and use codes that DICOM does not define. A study is left out only where every code that is written
is a defined one of something else: what cannot be read speaks for keeping the study.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable

_TERMS = """
    ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC
    HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA
    PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT
    RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
    AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF
"""
"""Defined Terms of Modality; those of the last line are retired."""
_DEFINED = frozenset(_TERMS.split())
_RADIOGRAPH = frozenset({"DR", "RG", "RX", "XR"})
"""Says that it is a radiograph and not of which of the two kinds: DR is no Defined Term and common,
RG (radiographic imaging) is one and is used for both."""
_RADIOGRAPHY = frozenset({"CR", "DX"})
_BETWEEN = re.compile(r"[\s\0\\/,;|+&]+")
_CODE = re.compile(r"[A-Z0-9]+")


def speaks_for(values: Iterable[str], wanted: Collection[str]) -> bool | None:
    """Return whether one of ``values`` names a wanted modality; None where they do not say.

    Compared without case and padding; a value may hold several codes with anything between them.
    ``wanted`` are Defined Terms, or private codes, in upper case.
    """
    texts = [unicodedata.normalize("NFKC", text).upper() for text in values]
    written = [_CODE.findall(word) for text in texts for word in _BETWEEN.split(text) if word]
    codes = {code for word in written for code in word}
    if codes & set(wanted) or any(text.strip(" \0") in wanted for text in texts):
        return True
    if codes & _RADIOGRAPH and _RADIOGRAPHY & set(wanted):
        return True
    legible = all(written)
    return False if codes and legible and codes <= _DEFINED | _RADIOGRAPH else None
