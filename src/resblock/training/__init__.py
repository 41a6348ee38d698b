"""Model, splits, recipe and seed to a run: the loop, schedules, checkpoints and inference."""
