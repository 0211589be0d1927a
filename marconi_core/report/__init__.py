"""From result tables to statements: the paper's summary numbers, its claims, and the results page."""
