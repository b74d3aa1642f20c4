"""What a load tells of what it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepfast.errors import LoadMismatch
from keepfast.interfaces.loading.report import Entry, LoadReport, Status, require, with_refusals


def report(*statuses: Status) -> LoadReport:
    entries = tuple(Entry("net", str(number), status) for number, status in enumerate(statuses))
    return LoadReport(Path("file.pt"), entries)


@pytest.mark.parametrize("status", ["missing", "extra", "shape", "dtype", "kind", "value", "refused"])
def test_a_report_is_true_where_all_was_loaded(status: Status) -> None:
    """Any difference makes it false."""
    assert report("loaded", "loaded")
    assert not report("loaded", status)


def test_a_module_that_refused_has_one_entry() -> None:
    """In the place of all that its file has; the entries of others stay."""
    refusal, other = Entry("net", "", "refused", found="why"), Entry("other", "a", "loaded")
    told = with_refusals(LoadReport(None, (*report("loaded", "loaded").entries, other)), [refusal])
    assert told.entries == (other, refusal)


def test_a_file_that_has_nothing_in_common_is_an_error() -> None:
    """Also where a load is not strict; one that has something is an error where it is."""
    require(report("loaded", "missing"), strict=False)
    for found, strict in ((report("missing", "extra"), False), (report("loaded", "missing"), True)):
        with pytest.raises(LoadMismatch, match=r"`file\.pt`"):
            require(found, strict=strict)
