"""What a bundle is worth: predictions, statistics with intervals, figures and plots."""
