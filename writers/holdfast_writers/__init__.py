"""The writers that come with Holdfast, one a file; found by name through the plugin system."""
