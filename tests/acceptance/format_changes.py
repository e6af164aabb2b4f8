"""The changes of public formats that are meant, each with its reason.

A change without a pattern excuses the whole format; one with a pattern rewrites the older text, or
both, and everything else of the format is still compared.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Change:
    formats: str
    """Names of formats, as a pattern of the shell."""
    reason: str
    pattern: str = ""
    """What the older text says, as a regular expression; empty: anything."""
    replacement: str = ""
    both: bool = False
    """The newer text is rewritten, too, as where lines of both are left out."""

    @property
    def whole(self) -> bool:
        return not self.pattern

    def concerns(self, name: str) -> bool:
        return fnmatch(name, self.formats)

    def apply(self, old: str) -> str:
        return re.sub(self.pattern, self.replacement, old, flags=re.M) if self.pattern else old


_SHIPPED = "further bundles are shipped; at 80 columns the folders end where they end"
_QUESTIONS = "bundles of other questions are read as those of age and sex"
_SECTIONS = "bundles look at CT and MR, too"
_BODY_PART = (
    "# Give no body part when the images show the stated one, or one of those that a combined "
    "term\n# covers, less probably.\n"
    "min_body_part_certainty = 0.8\n"
)
_ALERT = (
    "# Report a conflict (J6) when it is less probable than this that the images show anything of "
    "the\n# recorded body part, or that a chest radiograph is one.\n"
    "body_part_alert_probability = 0.02\n"
)
_CERTAIN = "# Propose no inferred body part that is less certain.\nmin_body_part_certainty = 0.9\n"
_THIRD = "BodyPartExamined is a third attribute under check"
_BY_SERIES = "what is a matter of a series is told of each series"
_UNCERTAIN = "an uncertain answer is given and marked, where it was withheld"
_TRIMMED = "studies with proposals or forwarded images are forgotten, too, but for what must stay"
_KEYSET = "studies --after goes on where a list ended"
_WALLS = (
    r"^# Give no age when the 90 % interval is wider, years\.\nmax_age_interval = 45\.0\n"
    r"# Give no sex when the more probable one is less certain\.\nmin_sex_certainty = 0\.8\n"
)
_CHOICES = (
    "# Give no age when the 90 % interval is wider, years; absent: every age that the gates let "
    "pass.\n# 'model show' says what each width answers, and how well.\n"
    "# max_age_interval = 60.0\n"
    "# Give no sex when the more probable one is less certain; 0.5: always one.\n"
    "min_sex_certainty = 0.5\n"
    "# An age whose 90 % interval is wider, years, is reported as uncertain: it contradicts no "
    "recorded\n# age, and is never proposed.\n"
    "certain_age_interval = 45.0\n"
    "# The same of a sex when the more probable one is less certain.\n"
    "certain_sex = 0.8\n"
)
_FRAMES = "an Enhanced CT of 2,000 frames with rich functional groups is read"
_CHESTS = "chests of one patient are compared where the configuration asks for it"
_COMPARE = r"^# Keeps an embedding of each chest(.*\n)(# .*\n)*compare_chests = false\n"
_UNLIKE = r"^# With model\.compare_chests: (.*\n)(# .*\n)*chest_alert_probability = 0\.001\n"
_GRAPH = "a bundle holds the graph that answers on a CPU; model show says what computes there"
_LATER = "a study that is analysed again waits for those that come in"
_MOVED = "a site's headers move its estimates, and the monitor keeps what that is fitted to"
INTENDED = (
    Change("model/show", _GRAPH),
    Change("model/show*json", _GRAPH, r',\s*"onnx_sha256": ?"[0-9a-f]{64}"', both=True),
    Change("*rows", _LATER, r"\bnot_before=[^ |\n]*", both=True),
    Change("help/model-recalibrate", _MOVED),
    Change("model/recalibrate-json", _MOVED),
    Change("*/rows", _MOVED, r"( \||,) measured(=[^|\n]*)?$", both=True),
    Change("*/rows", _MOVED, r"\bversion_num=\d+", both=True),
    Change("*/schema", _MOVED, r",? measured JSON", both=True),
    Change("config/example*", _CHESTS, _COMPARE, both=True),
    Change("config/example*", _CHESTS, _UNLIKE, both=True),
    Change("config/check-json", _CHESTS, r',"compare_chests":false', both=True),
    Change("config/check-json", _CHESTS, r',"chest_alert_probability":0\.001', both=True),
    Change("infer/*", _BY_SERIES, r'^ *"series_instance_uid": [^\n]*\n', both=True),
    Change("infer/*", _BY_SERIES, r', ?"series_instance_uid": ?("[^"\n]*"|null)', both=True),
    Change("errors/*-infer", _BY_SERIES, r'^ *"series_instance_uid": null,?\n', both=True),
    Change("errors/*-infer", _BY_SERIES, r', ?"series_instance_uid": ?null', both=True),
    Change("help/infer", _BY_SERIES),
    Change("help/show", _BY_SERIES),
    Change(
        "config/example*", _FRAMES, r"^# .*nested ones too\..*\n(# .*\n)*elements = .*\n", both=True
    ),
    Change("config/check-json", _FRAMES, r'"elements":100000', '"elements":400000'),
    # What JSON says of it stands on lines or behind commas of its own.
    Change("*", _THIRD, r'^ *"(meant_)?body_part": "[^"\n]*",?\n', both=True),
    Change("*", _THIRD, r', ?"(meant_)?body_part": ?"[^"\n]*"', both=True),
    Change("config/example*", _THIRD, r"^(sex_alert_probability = .*\n)", rf"\1{_ALERT}"),
    Change("config/example*", _THIRD, r"^(min_sex_certainty = 0\.95\n)", rf"\1{_CERTAIN}"),
    Change(
        "config/check-json",
        _THIRD,
        r'("sex_alert_probability":[^,}]*)',
        r'\1,"body_part_alert_probability":0.02',
    ),
    Change(
        "config/check-json",
        _THIRD,
        r'("min_sex_certainty":0\.95,)',
        r'\1"min_body_part_certainty":0.9,',
    ),
    Change("check-header/*", _THIRD),
    Change("errors/*-check-header", _THIRD),
    Change(
        "errors/*", _THIRD, r"I3, I4, C3, (.*H3, H4)", r"I3, I4, J1, J2, J3, J4, J5, C3, \1, J6"
    ),
    Change("infer/reports-*", _THIRD),
    Change("demo/json", _THIRD),
    Change("infer/few-json", _THIRD),
    Change("infer/odd", _THIRD),
    Change("sent/*-SR-*", _THIRD),
    Change("*audit/report-*", _THIRD),
    Change("*show/*", _THIRD),
    Change("*studies/*", _THIRD),
    # A capture has a part for it, which makes it taller. A listing, a header and a result that are
    # stored hold more attributes.
    Change("sent/*-OT-*", _THIRD, r"^\(0028,0010\) US .*\n", both=True),
    Change("sent/*-OT-*", _THIRD, r"^SHA-256 of PixelData .*\n", both=True),
    Change(
        "database/rows",
        _THIRD,
        r"\b(result_key|result|listed|facts)=.*?(?= \| |$)",
        both=True,
    ),
    Change("help/proposals-*", _THIRD),
    Change(
        "config/example*",
        _THIRD,
        r"^# Propose values for PatientAge and PatientSex\.\n",
        "# Propose values for PatientAge, PatientSex and BodyPartExamined.\n",
    ),
    Change("help/audit-start", _SECTIONS),
    Change(
        "*",
        _SECTIONS,
        "The image is larger than any radiograph",
        "The image is larger than any that is read",
    ),
    Change(
        "*",
        _SECTIONS,
        "The bits of a pixel are not those of a radiograph",
        "The bits of a pixel are not those of a grey image",
    ),
    Change(
        "config/example*",
        _SECTIONS,
        r"^(min_sex_certainty = 0\.8\n)",
        r"\1" + _BODY_PART,
    ),
    Change(
        "config/check-json",
        _SECTIONS,
        r'("min_sex_certainty":0\.8,)',
        r'\1"min_body_part_certainty":0.8,',
    ),
    Change("model/list*", _SHIPPED),
    Change("model/show", _QUESTIONS),
    Change("errors/*-model", _QUESTIONS),
    Change("help/infer", _QUESTIONS),
    Change("config/example*", _UNCERTAIN, _WALLS, _CHOICES),
    Change(
        "config/check-json",
        _UNCERTAIN,
        r'"max_age_interval":45\.0,"min_sex_certainty":0\.8,',
        '"max_age_interval":null,"min_sex_certainty":0.5,'
        '"certain_age_interval":45.0,"certain_sex":0.8,',
    ),
    Change("infer/*", _UNCERTAIN, r',\s*"certain": ?(true|false)', both=True),
    Change("*show/*", _UNCERTAIN, r',\s*"certain": ?false', both=True),
    Change(
        "config/example*",
        _TRIMMED,
        r"(were removed), unless it had a proposal\n# or was forwarded; 0: never\.\n",
        r"\1; 0: never. Of proposals\n# and forwarded images stay decisions, and what went out.\n",
    ),
    Change("help/studies", _KEYSET),
)
