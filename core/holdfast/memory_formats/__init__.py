"""The memory formats that come with Holdfast, a file each; none of them imports a framework."""
