"""What plugins subclass, and what they are given."""
