"""From predictions and header audit to the answer of a study. Pure."""
