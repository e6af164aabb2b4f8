"""One run: its settings, its starting weights, its loss and steps, and its calibration."""
