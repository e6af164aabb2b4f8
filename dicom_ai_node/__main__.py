"""``python -m dicom_ai_node`` and ``dicom-ai-node`` are the command line."""

import gc
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line; Ctrl-C while it is still being loaded is no traceback either."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this: >&-
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
    gc.disable()  # imports leave little behind: until a command runs there is nothing to look for
    try:
        from dicom_ai_node.cli import main as run

        run()
    except KeyboardInterrupt:
        from dicom_ai_node.errors import ExitCode

        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
