"""The checkpoint formats that come with Keepfast, a file each; none of them imports a framework."""
