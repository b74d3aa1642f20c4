"""The container of safetensors: its header, as strictly read as the library reads it, and the arrays behind."""
