"""Secrets are in nothing that is kept of a start."""

from __future__ import annotations

import time

import pytest

from keepfast.provenance.secrets import masked_arguments, masked_text

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"API_KEY = '{SECRET}'",
        f'+    "wandb_api_key": "{SECRET}",',
        f"-password={SECRET}",
        f"export HF_TOKEN={SECRET} && run",
        f"login(token='{SECRET}', user='me')",
        f"clone https://me:{SECRET}@example.org/repo",
        f"Authorization: Bearer {SECRET}",
        f"wandb.api_key={SECRET}",
        f"secret := {SECRET}",
        f"ValueError: token={SECRET}",
        f"a=b=token={SECRET}=c",
    ],
)
def test_what_is_assigned_to_a_secret_s_name_is_masked(line: str) -> None:
    """In code, headers, addresses and settings, whatever stands around it."""
    assert SECRET not in masked_text(line)
    assert "***" in masked_text(line)


@pytest.mark.parametrize("line", ["lr = 3e-4", "token_count: 5", "a = b", "x: int = 3", "https://example.org/a?b=c"])
def test_other_assignments_are_kept(line: str) -> None:
    """Nothing but secrets is masked."""
    assert masked_text(line) == line


@pytest.mark.parametrize(
    "arguments",
    [["--token", SECRET], [f"--token={SECRET}"], ["--wandb-api-key", SECRET], [f"wandb.password={SECRET}"]],
)
def test_the_command_line_is_kept_without_secrets(arguments: list[str]) -> None:
    """As an option with its value before or behind an equals sign, and as a setting; what follows stays."""
    kept = list(masked_arguments(["train.py", *arguments, "--lr", "1"]))
    assert SECRET not in " ".join(kept)
    assert (kept[0], kept[-2:]) == ("train.py", ["--lr", "1"])


def test_a_switch_named_like_a_secret_masks_no_option_behind_it() -> None:
    """What follows it is an option of its own."""
    assert list(masked_arguments(["--token", "--lr", "1"])) == ["--token", "--lr", "1"]


@pytest.mark.parametrize("part", ["x", "a=", "a: ", "token", "https://", "'", "token='"])
def test_long_text_of_any_kind_is_masked_in_no_time(part: str) -> None:
    """No text makes the search go back and forth."""
    before = time.process_time()
    masked_text(part * (65536 // len(part)))
    assert time.process_time() - before < 2
