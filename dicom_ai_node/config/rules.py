"""The ``[rules]`` table of the configuration: which rules run, and their limits."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from dicom_ai_node.config.table import Table

DateText = Annotated[str, Field(pattern=r"^[0-9]{8}$")]
AgeText = Annotated[str, Field(pattern=r"^[0-9]{3}[DWMY]$")]
MonthDay = Annotated[str, Field(pattern=r"^[0-9]{4}$")]
Word = Annotated[str, Field(min_length=2, max_length=64, pattern=r"^[^\W\d_]+( [^\W\d_]+)*$")]

RULE_IDS = (
    *("A1", "A2", "A3", "A4", "A5", "A6"),
    *("B1", "B2", "B3", "B4", "B5", "B6"),
    *("C1", "C2", "C4", "C5", "C7"),
    *("D1", "D2", "D3", "D4", "D5", "D6", "D7", "D9", "D10"),
    *("E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8"),
    *("F1", "F2", "F3", "F4", "F6", "F8"),
    *("G1", "G2", "G3", "G4", "G6"),
    *("I1", "I2", "I3", "I4"),
    *("J1", "J2", "J3", "J4", "J5"),
    *("C3", "C6", "G5", "G7", "G8", "S1", "S2", "S3"),  # of an archive
    *("I5", "I6", "H1", "H2", "H3", "H4", "J6"),  # of the image
)
"""The ids of :data:`dicom_ai_node.archive.rules.ALL_RULES`, whose rules read these settings."""


class RulesSettings(Table):
    """``[rules]``: what the header check takes for wrong. Ages are in years."""

    disabled: tuple[str, ...] = Field(
        (),
        description="Ids of rules that are not run. What they would have found is not assessed.",
    )

    maximum_age: int = Field(
        120, ge=90, le=999, description="C2: from this PatientAge on it is an error."
    )
    remarkable_age: int = Field(
        111, ge=90, le=999, description="C2: from this PatientAge on it is a warning."
    )
    placeholder_birth_dates: tuple[DateText, ...] = Field(
        (
            "19000101",
            "18000101",
            "19010101",
            "11111111",
            "00010101",
            "19691231",
            "19700101",
            "99991231",
        ),
        description="C4: birth dates that systems write for 'unknown'. Not used for arithmetic.",
    )
    year_only_days: tuple[MonthDay, ...] = Field(
        ("0101", "0701"),
        description="C5: month and day (MMDD) of birth dates of which only the year is known.",
    )
    test_names: tuple[Word, ...] = Field(
        (
            "test",
            "phantom",
            "qc",
            "quality control",
            "service",
            "dummy",
            "trauma",
            "unknown",
            "unbekannt",
            "inconnu",
            "desconocido",
            "sconosciuto",
        ),
        description="C7: whole words of a PatientName that belong to no identified patient.",
    )
    exclude_test_names: bool = Field(
        False,
        description="C7: also leave studies with such a name unassessed. A trauma patient without "
        "a name is a patient, therefore off.",
    )

    spike_ages: tuple[AgeText, ...] = Field(
        ("001Y", "099Y", "100Y"),
        description="C3: values of PatientAge that consoles fill in, looked for in every station.",
    )
    spike_minimum: int = Field(
        5, ge=2, le=1000, description="C3: fewer studies of a station are no spike."
    )
    spike_chance: float = Field(
        0.001,
        gt=0,
        lt=0.1,
        description="C3: how rarely chance may make a spike in an archive without any.",
    )
    same_birth_date_patients: int = Field(
        3, ge=1, le=100, description="C6: so many patients of a station and day may share one."
    )

    future_tolerance_days: int = Field(
        1, ge=0, le=31, description="D2: days that a date may be ahead (clocks, time zones)."
    )
    maximum_implied_age: int = Field(
        125, ge=100, le=200, description="D3: oldest age that two dates may imply."
    )
    first_radiograph_year: int = Field(1895, description="D4: no study is older than this year.")
    first_cr_year: int = Field(1980, description="D4: first year of Modality CR.")
    first_dx_year: int = Field(1993, description="D4: first year of Modality DX.")
    acquisition_tolerance_days: int = Field(
        1, ge=0, le=3650, description="D5: days that may lie between study and acquisition."
    )

    age_tolerance_units: int = Field(
        1, ge=0, le=12, description="E1: units that PatientAge may be off, in its own unit."
    )
    year_only_widening: float = Field(
        1.0, ge=0, le=5, description="C5, E1: years of tolerance added when only a year is known."
    )
    age_conflict_years: float = Field(
        2.0, ge=1, le=20, description="E2: PatientAge off by so many years is an error."
    )
    adult_age: float = Field(18.0, ge=12, le=25, description="E7: age from which one is an adult.")
    adult_minimum_size: float = Field(
        1.0, ge=0, le=2, description="E7: smallest PatientSize of an adult, metres."
    )
    adult_minimum_weight: float = Field(
        20.0, ge=0, le=60, description="E7: smallest PatientWeight of an adult, kg."
    )
    infant_age: float = Field(2.0, ge=0.5, le=5, description="E5, E7: age below which: infant.")
    infant_maximum_size: float = Field(
        1.2, ge=0.5, le=2, description="E7: largest PatientSize of an infant, metres."
    )
    infant_maximum_weight: float = Field(
        25.0, ge=5, le=100, description="E7: largest PatientWeight of an infant, kg."
    )
    censored_age: int = Field(
        89,
        ge=80,
        le=110,
        description="E8: from this age on a de-identified PatientAge is a lower bound.",
    )

    pregnant_minimum_age: float = Field(9.0, ge=0, le=20, description="F3: youngest pregnancy.")
    pregnant_maximum_age: float = Field(60.0, ge=40, le=100, description="F3: oldest pregnancy.")
    maximum_size: float = Field(
        3.0, ge=2, le=10, description="F8: PatientSize above this, in metres, is centimetres."
    )

    group_minimum: int = Field(
        20, ge=2, le=10_000, description="G7: smaller groups of studies are not judged."
    )
    group_false_discovery_rate: float = Field(
        0.05, gt=0, lt=0.5, description="G7: expected share of sound ones among unusual groups."
    )

    @field_validator("disabled")
    @classmethod
    def _are_rules(cls, disabled: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(disabled) - set(RULE_IDS))
        if unknown:
            raise ValueError(f"no such rule: {', '.join(unknown)}; there are {', '.join(RULE_IDS)}")
        return disabled

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> "RulesSettings":
        if self.remarkable_age > self.maximum_age:
            raise ValueError("remarkable_age must not exceed maximum_age")
        return self


def settings_read_by(rule: str) -> tuple[str, ...]:
    """Names of the settings that a rule reads: those whose description begins with its id."""
    described = {
        name: field.description or "" for name, field in RulesSettings.model_fields.items()
    }
    return tuple(
        name for name, text in described.items() if rule in text.partition(":")[0].split(", ")
    )
