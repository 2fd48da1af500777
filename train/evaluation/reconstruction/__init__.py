"""What a tokenizer gives back, beside what it was given: figures of each kind."""
