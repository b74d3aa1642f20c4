"""The operating system's side: files that are complete, locks, threads, what lives as long as the process."""
