"""What resblock's promises cost, measured."""
