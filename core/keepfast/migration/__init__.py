"""Migration: checkpoints of other libraries, and of the other framework, loaded into modules."""

from __future__ import annotations

from keepfast.migration.calls import migrate, migrate_modules
from keepfast.migration.report import MigratedEntry, MigrationReport

__all__ = ["MigratedEntry", "MigrationReport", "migrate", "migrate_modules"]
