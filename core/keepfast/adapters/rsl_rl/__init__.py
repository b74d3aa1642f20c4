"""rsl_rl, and with it Isaac Lab and mjlab: its runners attached, and a log writer for its configuration."""
