"""A job to a run: the loop, schedules, checkpoints, and what is measured after each epoch."""
