"""The way of a sample: added, kept, drawn, exported at the filling cycle, and back."""
