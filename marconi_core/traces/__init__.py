"""From published conversations to timed, tokenized, compiled traces."""
