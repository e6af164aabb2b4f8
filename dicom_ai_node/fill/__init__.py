"""Accepted proposals become filled copies of the study's images, queued with the reports."""
