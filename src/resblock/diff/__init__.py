"""What differs between two revisions of a study: read from the files in git, without DVC's cache and without Keras."""
