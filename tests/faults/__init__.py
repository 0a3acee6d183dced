"""No process outlives procreaper, whatever happens to procreaper."""
