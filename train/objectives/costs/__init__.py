"""What an experiment costs: on this machine, and on chips that are not here."""
