"""stable-baselines3: its models attached."""
