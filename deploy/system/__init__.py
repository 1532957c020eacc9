"""Use the operating system: CPUs, processes, streams, temporary files, the terminal."""
