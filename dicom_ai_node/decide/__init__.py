"""From predictions and header check to the answer of a study. Pure."""
