"""What the deliverer's process may not load."""

import json
import subprocess
import sys


def test_the_deliverer_loads_neither_network_nor_report_builder() -> None:
    program = (
        "import sys, json, dicom_ai_node.deliver, dicom_ai_node.demo.pacs;"
        "print(json.dumps([m for m in sys.modules if '.' not in m]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"torch", "torchvision", "highdicom", "imagecodecs"} & set(json.loads(done.stdout))
