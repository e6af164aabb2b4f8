"""Calibrates a bundle on a site's own trusted headers: files in, a new bundle out.

:mod:`.cases` finds the studies whose header can be trusted and asks the network about them,
:mod:`.pack` fits and writes. Nothing of a patient is kept but age, sex and a hash.
"""
