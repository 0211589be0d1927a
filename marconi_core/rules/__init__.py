"""What the workflow's scripts call: the study's traces and grids, optional data, the rule's log."""
