"""``python -m dicom_ai_node.rules`` prints the table of rules that docs/header-rules.md holds."""

from dicom_ai_node.rules.registry import markdown_table

if __name__ == "__main__":
    print(markdown_table())
