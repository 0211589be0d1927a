"""Tidy result tables -> figures: one module per figure, one style, the same bytes always."""
