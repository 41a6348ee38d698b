"""What the residual block buys, and how accuracy changes with depth."""
