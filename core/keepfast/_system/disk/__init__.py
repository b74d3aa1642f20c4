"""What file systems may lack, and what is done where they do."""
