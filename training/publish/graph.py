"""Pack the graph that answers on a CPU into a bundle that was made without one.

    python -m training graph --bundle models/site

The commands that make a bundle do so themselves. Prints the largest difference to torch.
"""

from dicom_ai_node.inference.graph import pack
from training.data.options import BUNDLE, BundleFolder


def main(bundle: BundleFolder = BUNDLE) -> None:
    """Pack a graph."""
    print(f"{bundle}: largest relative difference to torch {pack(bundle):.1e}")
