"""Power losses that are played: what is done to a disk is recorded, and what a loss may leave is made of that."""
