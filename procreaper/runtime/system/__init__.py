"""What the operating system is asked: processes, groups, start times, usage, descriptors."""
