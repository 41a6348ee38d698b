"""A study to pictures, tables and one self-contained page."""
