"""The sections of a report, one module for each question; all take the material and return a section, or nothing."""
