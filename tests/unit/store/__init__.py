"""One suite that every database runs: each test once on SQLite and once on PostgreSQL."""
