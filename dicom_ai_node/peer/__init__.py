"""Associations with peers (PS3.7, PS3.8): those that this node opens, and the PDUs of all."""
