"""A PACS and the node on one machine, with synthetic images."""
