"""All that decides what a training gives. It imports nothing of the rest, and needs Keras, a backend and NumPy."""
