"""What a bundle is published with: provenance, report and model card."""
