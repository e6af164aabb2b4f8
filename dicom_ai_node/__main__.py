"""``python -m dicom_ai_node`` is the command line."""

from dicom_ai_node.cli import main

if __name__ == "__main__":
    main()
