"""The way of a value: tracked, made a statistic at the interval, handed to writers."""
