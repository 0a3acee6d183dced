"""Health checks: one module for each kind, and the function that runs any of them."""
