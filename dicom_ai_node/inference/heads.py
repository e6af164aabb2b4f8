"""The rows of a manifest that say what the outputs of a bundle's network mean.

A *head* is a question that the bundle answers: a quantity, a category or findings. A *gate* is a
probability below which it answers none of them. Each names its first output, so that rows can stand
in any order and a network keeps its tensors when they change places.
"""

import operator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dicom_ai_node.answers import Concept
from dicom_ai_node.dicom.body_parts import BODY_PARTS

RESERVED = frozenset(
    {
        *("path", "kind", "sop_instance_uid", "outcome", "reason", "unanswered", "gate"),
        *("recorded", "status", "rules", "model", "saliency", "study_instance_uid", "audit"),
        *("images", "trained_ages", "features", "texture", "content", "in_distribution"),
        *(
            "of_first",
            "further",
            "research",
            "offered",
            "read",
            "study",
            "series",
            "series_instance_uid",
        ),
    }
)
"""No row may be called so: answers stand beside these in public formats and tensors."""


class Row(BaseModel):
    """One question of the network's linear layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    output: int = Field(ge=0)
    """Position of its first output in the linear layer."""

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value in RESERVED:
            raise ValueError(f"{value!r} is the name of something else")
        return value

    @property
    def outputs(self) -> int:
        """How many outputs it has."""
        return 1

    @property
    def place(self) -> slice:
        """Where they stand."""
        return slice(self.output, self.output + self.outputs)


class _Question(Row):
    """A row that is answered, and how a report names it."""

    concept: Concept | None = Field(None, exclude_if=operator.not_)
    """Concept name in a report; None: that of report/codes.py, or a private one."""

    @property
    def concepts(self) -> dict[str, Concept]:
        """Its concept, and those of its values or labels, as :class:`Terms` has them."""
        return {} if self.concept is None else {self.name: self.concept}


class _Coded(_Question):
    """A question that is answered by words."""

    codes: dict[str, Concept] = Field(default_factory=dict, exclude_if=operator.not_)
    """Of values or labels in a report; what is not here gets a private one."""

    @property
    def concepts(self) -> dict[str, Concept]:
        """Of the head, and of its words."""
        words = {f"{self.name}.{word}": code for word, code in self.codes.items()}
        return super().concepts | words


class QuantityHead(_Question):
    """A number, such as the age, and how sure it is.

    The outputs are logits of whole numbers (DLDL, with ``support``), or mean and log variance of a
    normal distribution (with ``normal``).
    """

    kind: Literal["quantity"] = "quantity"
    unit: str
    """UCUM, such as ``a`` for years."""
    support: tuple[int, int] | None = Field(None, exclude_if=operator.not_)
    """First and last of the whole numbers; None of a normal distribution."""
    normal: tuple[float, float] | None = Field(None, exclude_if=operator.not_)
    """Centre and scale, in its unit: the outputs are of (number - centre) / scale, so that they
    start out about right. None of whole numbers."""
    bounds: tuple[float, float]
    """No interval reaches beyond."""
    attribute: str = ""
    """DICOM keyword of the attribute that the answer is held against, '' for none."""

    @property
    def outputs(self) -> int:
        """One for each whole number, or two."""
        return self.support[1] - self.support[0] + 1 if self.support else 2

    @model_validator(mode="after")
    def _rises(self) -> "QuantityHead":
        if (self.support is None) == (self.normal is None):
            raise ValueError("support or normal: expected one of them")
        if (self.support and self.support[0] >= self.support[1]) or self.bounds[0] >= self.bounds[
            1
        ]:
            raise ValueError("support and bounds: expected the smaller number first")
        if self.normal and not self.normal[1] > 0:
            raise ValueError("normal: expected a scale above 0")
        return self


class CategoryHead(_Coded):
    """One of several coded values, such as the sex; of two, the logit is that of the first."""

    kind: Literal["category"] = "category"
    values: tuple[str, ...] = Field(min_length=2)
    """As the attribute codes them."""
    attribute: str = ""
    """As of :class:`QuantityHead`."""
    spans: bool = Field(False, exclude_if=operator.not_)
    """Images of one study may truly show different values, as sections do of regions of the body.

    The values are defined terms of BodyPartExamined then, and the study's may be a combined one.
    """

    @model_validator(mode="after")
    def _spans_parts_of_the_body(self) -> "CategoryHead":
        unknown = [value for value in self.values if self.spans and value not in BODY_PARTS]
        if unknown:
            raise ValueError(f"spans: {unknown[0]!r} is no defined term of BodyPartExamined")
        return self

    @property
    def outputs(self) -> int:
        """One logit for each value, or one for two."""
        return 1 if len(self.values) == 2 else len(self.values)


class FindingsHead(_Coded):
    """Labels of which each may hold or not; the outputs are their logits."""

    kind: Literal["findings"] = "findings"
    labels: tuple[str, ...] = Field(min_length=1)

    @property
    def outputs(self) -> int:
        """One for each label."""
        return len(self.labels)


class Gate(Row):
    """The output is the logit of the probability that the image is one to be answered."""

    threshold: float = Field(ge=0, le=1)
    """An image passes at or above it."""
    code: str
    """Of the reason why there is no answer below it."""
    text: str
    """The same in words."""


Head = Annotated[QuantityHead | CategoryHead | FindingsHead, Field(discriminator="kind")]

AGE = QuantityHead(
    name="age", output=0, unit="a", support=(0, 100), bounds=(0.0, 110.0), attribute="PatientAge"
)
SEX = CategoryHead(name="sex", output=101, values=("F", "M"), attribute="PatientSex")
FRONTAL = Gate(
    name="frontal",
    output=102,
    threshold=0.5,
    code="not_frontal",
    text="does not look like a frontal view",
)
CHEST = Gate(
    name="chest",
    output=103,
    threshold=0.5,
    code="not_a_chest",
    text="does not look like a chest radiograph",
)
HEADS: tuple[Head, ...] = (AGE, SEX)
GATES = (CHEST, FRONTAL)
"""What ``training`` trains, gates in the order in which they are asked."""
