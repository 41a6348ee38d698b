"""From the scores of many trainings to statements: comparisons, intervals, rebound, verdicts. It needs no Keras."""
