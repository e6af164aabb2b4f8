"""Images and their labels: indexes, folds, caches, roles, and what is changed in an image."""
