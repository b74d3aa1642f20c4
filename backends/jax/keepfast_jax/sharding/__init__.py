"""Arrays that are spread over processes: how they are copied, stored together, and put back."""
