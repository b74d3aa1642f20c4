"""What a load tells of what it did."""
