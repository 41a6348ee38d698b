"""Runs and the test split to scores, and scores to a study: means, intervals, paired gaps."""
