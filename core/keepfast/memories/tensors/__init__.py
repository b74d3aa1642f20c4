"""What the tensors of a memory are: their sizes and dtypes, the spaces they come of, and what they can hold."""
