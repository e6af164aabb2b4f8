"""The database of this folder's tests: any that the node can be run on."""

import pytest

from dicom_ai_node.store import Database


@pytest.fixture
def db(any_db: Database) -> Database:
    """An empty database with the newest schema: once SQLite, once PostgreSQL."""
    return any_db
