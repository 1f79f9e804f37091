"""What can be read off a text without a model: its words, repetitions, copies, mentions."""
