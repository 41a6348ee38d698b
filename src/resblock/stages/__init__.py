"""One short module per DVC stage: read, call, write, log."""
