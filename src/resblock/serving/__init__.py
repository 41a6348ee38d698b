"""A trained network outside the study: pictures in, classes out."""
