"""``python -m dicom_ai_node`` and ``dicom-ai-node`` are the command line."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being loaded is no traceback either."""
    try:
        from dicom_ai_node.cli import main as run

        run()
    except KeyboardInterrupt:
        from dicom_ai_node.errors import ExitCode

        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
