"""How well the network does on this site's own studies, and whether that changes. Pure.

Headers that no rule has anything against are taken for the truth; nothing here imports numpy.
"""
