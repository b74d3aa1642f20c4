"""What users give, checked where it is given."""
