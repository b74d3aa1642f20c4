"""The writers that come with Keepfast, one a file; found by name through the plugin system."""
