"""What the files of other libraries are made of: archives, pickles and maps, opened without running anything."""
