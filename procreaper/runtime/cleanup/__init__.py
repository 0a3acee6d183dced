"""What ends processes that left their group, also after a `kill -9` of procreaper."""
