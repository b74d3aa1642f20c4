"""Object stores: the one place that knows of fsspec."""
