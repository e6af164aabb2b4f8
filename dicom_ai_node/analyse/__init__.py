"""From a complete study to its stored result: rules, pixels, network, decision, report."""
