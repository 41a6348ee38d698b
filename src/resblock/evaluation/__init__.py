"""One trained network and images to scores and closer looks."""
