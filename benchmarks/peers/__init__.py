"""What is compared: each module is a process that trains one network in one way, and takes its turns when told.

They import nothing of each other. The environment of PyTorch has neither Keras nor this project's dependencies, so
`protocol`, `batches` and `eager_torch` need the standard library, NumPy and PyTorch alone.
"""
