"""stable-baselines3, and sbx over it: its models attached."""
