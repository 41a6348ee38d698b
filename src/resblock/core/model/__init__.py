"""A spec to a Keras model: architecture, blocks, layers, network."""
