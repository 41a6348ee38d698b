"""A spec to a Keras model: networks, blocks, layers and what they cost."""
