"""What lies in this machine's spool and was never uploaded: of runs that were killed, or that no network reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from keepfast._system.finishing import finish
from keepfast._system.remote.addresses import Address
from keepfast._system.remote.record import Record
from keepfast._system.remote.spool import address_at, kept
from keepfast._system.warnings import warn
from keepfast.config import ExperimentConfig
from keepfast.runs.processes.ownership import Ownership, is_owned
from keepfast.runs.uploading.uploads import Uploads

_SHOWN = 5


@final
@dataclass(frozen=True)
class Leftover:
    """A run that is not wholly on its store, and that nobody writes.

    Attributes:
        directory: where it lies.
        address: where it belongs.
    """

    directory: Path
    address: Address

    def upload(self) -> bool:
        """Upload what the store lacks; what cannot be is told. Say whether all of it went up.

        Raises:
            DirectoryError: if somebody owns the run.
            RemoteError: if the store refuses, or cannot be reached.
        """
        ownership, uploads = Ownership(self.directory), Uploads(self.directory, ExperimentConfig().model_dump())
        ownership.take()
        try:
            uploads.take()
            uploads.start()
        finally:
            finish(uploads.close, ownership.release)
        return Record.of(self.directory).is_complete


def leftovers() -> Iterator[Leftover]:
    """Yield every run of the spool that is not wholly on its store, and that nobody writes."""
    for directory, record in kept():
        address = address_at(directory)
        if address is not None and not record.is_complete and directory.is_dir() and not is_owned(directory):
            yield Leftover(directory, address)


def tell_leftovers(own: Path) -> None:
    """Warn of runs in the spool that are not on their stores."""
    found = [each for each in leftovers() if each.directory != own]
    if found:
        named = ", ".join(f"`{each.address}`" for each in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        warn(
            f"the spool holds what was never uploaded of {named}{more}; `keepfast upload` uploads it, and so does the "
            "next start of each run"
        )
