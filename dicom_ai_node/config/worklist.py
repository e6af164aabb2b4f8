"""``[worklist]``: the modality worklist that knows what was ordered for whom."""

from pydantic import Field

from dicom_ai_node.config.table import AETitle, Port, Table


class WorklistTable(Table):
    """``[worklist]``: a modality worklist to ask for birth date and sex; absent: none is asked."""

    host: str = Field(min_length=1)
    port: Port
    ae_title: AETitle
    calling_ae_title: str = Field(
        "", max_length=16, description="AE title that we call with; empty: node.ae_title."
    )
    timeout: float = Field(
        3.0,
        gt=0,
        le=30,
        description="Seconds to connect, and for all that is asked about one study. Then the "
        "analysis goes on without an answer, and for a while nothing is asked.",
    )
    max_pdu: int = Field(131072, ge=4096, le=4194304)
    compare: bool = Field(
        False,
        description="Ask about every study, to hold its header against the answer (rule G6); "
        "false: only where age, sex or birth date is missing or wrong.",
    )
