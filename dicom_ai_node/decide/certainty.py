"""How certain an answer has to be to be given, and to be acted upon.

What a wide interval or a sex near one half says is little, and true: it is given, and marked as
uncertain. Only what is certain speaks against a record or is proposed as a value. A site may also
want nothing in place of little (``policy.max_age_interval``, ``policy.min_sex_certainty``).

Thresholds go by the attribute: two bundles may call their heads alike and mean something else.
"""

import math
from dataclasses import replace

from dicom_ai_node.answers import Answer, Category, Quantity
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.rules.attributes import AGE, SEX


def widest(answer: Quantity, policy: PolicySettings) -> float:
    """Return the widest 90 % interval with which the policy lets an answer be given."""
    most = policy.max_age_interval if answer.attribute == AGE else None
    return math.inf if most is None else most


def least_certain(answer: Category, policy: PolicySettings) -> float:
    """Return the least certainty with which the policy lets an answer be given."""
    least = {SEX: policy.min_sex_certainty, "BodyPartExamined": policy.min_body_part_certainty}
    return least.get(answer.attribute, 0.0)


def given(answer: Answer, policy: PolicySettings) -> bool:
    """Whether the policy lets the answer be given."""
    if isinstance(answer, Quantity):
        return answer.width <= widest(answer, policy)
    return not isinstance(answer, Category) or answer.certainty >= least_certain(answer, policy)


def marked(answer: Answer, policy: PolicySettings) -> Answer:
    """Return the answer with :attr:`certain` as the policy sees it."""
    if isinstance(answer, Quantity) and answer.attribute == AGE:
        return replace(answer, certain=answer.width <= policy.certain_age_interval)
    if isinstance(answer, Category) and answer.attribute == SEX:
        return replace(answer, certain=answer.certainty >= policy.certain_sex)
    return answer
