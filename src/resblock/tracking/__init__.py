"""MLflow as a view of the files: the only room that imports it."""
