"""rl_games: its agents attached, and an observer for its runner."""
