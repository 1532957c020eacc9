"""What the operating system gives: CPUs, processes, streams, files, the terminal."""
