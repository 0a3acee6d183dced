"""Whatever happens to procreaper, nothing that it started outlives it."""
