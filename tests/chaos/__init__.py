"""The fault campaign: a small study is run while things break, and must end as one that nothing disturbed.

`make chaos` runs it; docs/reliability.md tells what it found.
"""
