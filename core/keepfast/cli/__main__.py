"""Runs the command line as ``python -m keepfast.cli``."""

from keepfast.cli import main

main()
